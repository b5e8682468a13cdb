"""absl's command line with one clear line for what is wrong on it, or in the file of --config."""

import difflib
import itertools
import os
import re
import runpy
import sys
import traceback

from absl import flags

from nofrost_jax.errors import UserError

_WRONG = (  # what absl and ml_collections raise on a command line or a config file that is wrong
    *(flags.Error, AttributeError, KeyError, TypeError, ValueError),
    *(OSError, ImportError, SyntaxError),
)

_KINDS = {  # what their errors say of a value, and what the value should be
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean": "True or False",
}


def parse(argv, config, known):
    """Parses the flags, or raises UserError. config: the flag of a config file, whose value is locked; known: a config
    with every field that there is."""
    # A shell leaves ~ alone behind the =.
    argv = [re.sub("^(--?config=)(~.*)", lambda found: found[1] + os.path.expanduser(found[2]), one) for one in argv]
    try:
        _, *surplus = flags.FLAGS(argv)
        if config.value is not None:
            config.value.lock()  # a file that could not be read fails only now, at the first look inside
        elif config.present:
            raise TypeError("get_config() returns None")
    except SystemExit as end:
        sys.exit(0 if any(re.match("--?help", one) for one in argv) else end.code)  # absl says 1 after --help
    except Exception as error:
        raise _told(error, argv) from None
    if surplus:
        raise UserError(f"{surplus[0]!r} is no flag; write --config.FIELD=VALUE, with no space around =")
    if config.value is not None:
        _check_fields(config.value, known)


def _check_fields(config, known, room=""):
    """Raises UserError for a field that a config file adds, which nothing would read. Attacks have options of their
    own, and what says only how to evaluate, without a model, has more sections."""
    for name, value in config.items():
        if name in known:
            if hasattr(value, "items") and hasattr(known[name], "items") and name not in ("attack", "attacks"):
                _check_fields(value, known[name], f"{room}{name}.")
        elif room or "model" in config:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f'. Did you mean "{close[0]}"?' if close else ""
            raise UserError(f"the config has a field that is none: {room}{name}; take it out of --config{hint}")


def _told(error, argv):
    """The UserError for what the libraries raise on a command line: the reason, without their tracebacks. Where the
    file of --config is itself in error, that, and where in it. Any other error as it is."""
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
        example = "configs/eval/paper.py" if {"--mode=evaluate", "evaluate"} & {*argv} else "configs/digits.py"
        return UserError(
            f"--{error.flagname} is a field of a config, and none is given; give --config=FILE before it, e.g. "
            f"--config={example} --{error.flagname}=VALUE"
        )
    if unlike := re.match(rf"flag (--.+): .*?({'|'.join(_KINDS)})", str(error)):
        return UserError(f"{unlike[1]} is wrong: it must be {_KINDS[unlike[2]]}")
    return UserError(str(error))


def _in_config_file(argv):
    """The UserError for an error within the file of --config, or None. The file is run once more: ml_collections tells
    of some errors as of a field that is missing, and of others as text."""
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


def _line(error, path):
    """Where in a user's own files an error was raised: " (mine.py, line 3)"."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    libraries = (sys.prefix, sys.base_prefix, "<", __file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(libraries)]
    frames = [frame for frame in frames if os.path.abspath(frame.filename) == os.path.abspath(path)] or frames
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
