"""Importing this puts the least of a ConfigDict in ml_collections' place, where that is not installed: enough for the
configs and for `config`, without type checks, locks and flags. Machines that are lent for minutes may lack it.
"""

import contextlib
import copy
import importlib.machinery
import importlib.util
import json
import sys
import types
from collections.abc import Mapping


class ConfigDict(dict):
    """Nested fields, as attributes or by key."""

    def __init__(self, fields=()):
        super().__init__()
        self.update(fields)

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field {name!r}") from None

    def __setattr__(self, name, value):
        self[name] = value

    def __delattr__(self, name):
        del self[name]

    def __setitem__(self, name, value):
        plain = isinstance(value, Mapping) and not isinstance(value, ConfigDict)
        super().__setitem__(name, ConfigDict(value) if plain else value)

    def update(self, fields=(), **more):
        for name, value in {**dict(fields), **more}.items():
            if isinstance(value, Mapping) and isinstance(self.get(name), ConfigDict):
                self[name].update(value)
            else:
                self[name] = value

    def update_from_flattened_dict(self, fields):
        for path, value in fields.items():
            *outer, name = path.split(".")
            place = self
            for part in outer:
                place = place[part]
            place[name] = value

    def copy_and_resolve_references(self):
        return copy.deepcopy(self)

    def to_dict(self):
        return {name: value.to_dict() if isinstance(value, ConfigDict) else value for name, value in self.items()}

    def unlocked(self):
        return contextlib.nullcontext(self)

    def to_json(self, **options):
        return json.dumps(self, **options)


def placeholder(field_type):
    """The value of a field that is not set yet."""
    del field_type


def install():
    """Makes `import ml_collections` find what is here."""
    modules = {name: types.ModuleType(name) for name in ("ml_collections", "ml_collections.config_dict")}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.ConfigDict, module.placeholder = ConfigDict, placeholder
    modules["ml_collections"].config_dict = modules["ml_collections.config_dict"]
    sys.modules.update(modules)


if "ml_collections" not in sys.modules and not importlib.util.find_spec("ml_collections"):
    install()
