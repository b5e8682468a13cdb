"""absl's command line, with one clear line for errors on it or in the file of --config."""

import difflib
import itertools
import os
import re
import runpy
import sys
import traceback

from absl import flags
from ml_collections import ConfigDict

from nofrost_jax.errors import UserError

_WRONG = (  # what absl and ml_collections raise for a wrong command line or config file
    *(flags.Error, AttributeError, KeyError, TypeError, ValueError),
    *(OSError, ImportError, SyntaxError),
)

_KINDS = {  # words in their errors about a value: what the value must be
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean": "True or False",
}


def parse(argv: list[str], config: flags.FlagHolder, known: ConfigDict) -> None:
    """Parses the flags, or raises UserError. config: the flag of a config file, whose value gets locked; known: a
    config with all fields."""
    # A shell does not expand ~ after =.
    argv = [re.sub("^(--?config=)(~.*)", lambda found: found[1] + os.path.expanduser(found[2]), one) for one in argv]
    try:
        _, *surplus = flags.FLAGS(argv)
        if config.value is not None:
            config.value.lock()  # a file that cannot be read fails here, at the first access
        elif config.present:
            raise TypeError("get_config() returns None")
    except SystemExit as end:
        sys.exit(0 if any(re.match("--?help", one) for one in argv) else end.code)  # absl says 1 after --help
    except Exception as error:
        raise _told(error, argv) from None
    if surplus:
        raise UserError(f"{surplus[0]!r} is not a flag; write --config.FIELD=VALUE, without spaces around =")
    if config.value is not None:
        _check_fields(config.value, known)


def _check_fields(config: ConfigDict, known: ConfigDict, room: str = "") -> None:
    """Raises UserError for a field in a config file that nothing reads. Attacks have their own options, and a config
    that only says how to evaluate, without a model, has other sections."""
    for name, value in config.items():
        if name in known:
            if hasattr(value, "items") and hasattr(known[name], "items") and name not in ("attack", "attacks"):
                _check_fields(value, known[name], f"{room}{name}.")
        elif room or "model" in config:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f'. Did you mean "{close[0]}"?' if close else ""
            raise UserError(f"the config has an unknown field: {room}{name}; remove it from --config{hint}")


def _told(error: Exception, argv: list[str]) -> Exception:
    """The UserError for an error of the libraries: only the reason, or what is wrong in the file of --config and where.
    Any other error as it is."""
    if inside := _in_config_file(argv):
        return inside
    if not isinstance(error, _WRONG):
        return error
    while error.args and isinstance(error.args[0], Exception):  # ml_collections wraps a KeyError in an AttributeError
        error = error.args[0]
    if isinstance(error, (AttributeError, KeyError)):
        return UserError(f"the config has no such field: {error.args[0]}")
    if isinstance(error, OSError):  # ml_collections lists the places that it searched; the reason comes last
        reason = str(error).strip().splitlines()[-1].strip()
        return UserError(f"--config: {reason}; give the path of a Python file, e.g. --config=configs/digits.py")
    if isinstance(error, flags.UnrecognizedFlagError) and error.flagname.startswith("config."):
        example = "configs/eval/own.py" if {"--mode=evaluate", "evaluate"} & {*argv} else "configs/digits.py"
        return UserError(
            f"--{error.flagname} is a field of a config, but there is no config; give --config=FILE before it, e.g. "
            f"--config={example} --{error.flagname}=VALUE"
        )
    if unlike := re.match(rf"flag (--.+): .*?({'|'.join(_KINDS)})", str(error)):
        return UserError(f"{unlike[1]} is wrong: it must be {_KINDS[unlike[2]]}")
    return UserError(str(error))


def _in_config_file(argv: list[str]) -> UserError | None:
    """The UserError for an error in the file of --config, or None. Runs the file again, because ml_collections reports
    some errors as missing fields, and others only as text."""
    given = [one.partition("=")[2] for one in argv if re.match("--?config=", one)]
    given += [two for one, two in itertools.pairwise(argv) if re.fullmatch("--?config", one)]
    for value in given:
        path, _, word = value.partition(":")
        if not os.path.isfile(path):
            continue
        try:
            get_config = runpy.run_path(path).get("get_config")
            config = get_config(*([word] if ":" in value else [])) if get_config else None
        except Exception as error:
            name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return UserError(f"--config={value}: {name}{error}{_line(error, path)}")
        if get_config is None:
            return UserError(f"--config={value} has no function get_config(); see configs/digits.py")
        if not hasattr(config, "lock"):
            kind = type(config).__name__
            return UserError(f"--config={value}: get_config() returns {kind}, not a ConfigDict; see configs/digits.py")
    return None


def _line(error: Exception, path: str) -> str:
    """Where in a user's own file an error was raised: " (mine.py, line 3)"."""
    if isinstance(error, SyntaxError):
        return ""  # it gives the line itself
    libraries = (sys.prefix, sys.base_prefix, "<", __file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(libraries)]
    frames = [frame for frame in frames if os.path.abspath(frame.filename) == os.path.abspath(path)] or frames
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
