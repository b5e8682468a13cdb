"""Errors of the data sources, which speak of a config's fields, in the words of a command's options."""

import contextlib
import re
from collections.abc import Iterator, Mapping

from nofrost_jax.data import folder
from nofrost_jax.errors import UserError


@contextlib.contextmanager
def speaking_of(options: Mapping[str, str], config) -> Iterator[None]:
    """A UserError from inside calls fields of the config as the command does: {"config.data.source": "--source"}.

    Where the class folders of `folder:PATH` lie in PATH itself, it says how to tell the command so.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for field, option in options.items():
            text = re.sub(rf"{re.escape(field)}(?!\.?\w)", option, text).replace(f"{option} = ", f"{option}=")
        if _is_flat(config):
            text += f"; for class folders in PATH itself give {options['config.data.eval_split']}={folder.FLAT}"
        raise UserError(text) from error


def _is_flat(config) -> bool:
    """Whether images lie where class folders are expected, and nothing says so."""
    kind, _, path = config.data.source.partition(":")
    if kind != "folder" or config.data.eval_split == folder.FLAT:
        return False
    files = folder.root_of(config, path).glob("[!.]*/[!.]*")
    return any(file.suffix.lower() in folder.EXTENSIONS for file in files)
