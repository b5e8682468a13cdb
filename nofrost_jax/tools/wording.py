"""Rewords errors of the data sources, which name fields of a config, for a command's options."""

import contextlib
import re
from collections.abc import Iterator, Mapping

from nofrost_jax.data import folder
from nofrost_jax.errors import UserError


@contextlib.contextmanager
def speaking_of(options: Mapping[str, str], source: str, data_dir: str, eval_split: str) -> Iterator[None]:
    """In a UserError from inside, replaces fields by options: {"config.data.source": "--source"}. If the class folders
    of `folder:PATH` seem to be in PATH itself, adds the option for that."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for field, option in options.items():
            text = re.sub(rf"{re.escape(field)}(?!\.?\w)", option, text).replace(f"{option} = ", f"{option}=")
        if _is_flat(source, data_dir, eval_split):
            text += f"; for class folders in PATH itself give {options['config.data.eval_split']}={folder.FLAT}"
        raise UserError(text) from error


def _is_flat(source: str, data_dir: str, eval_split: str) -> bool:
    """Whether images are where class folders are expected, although the split is not "."."""
    kind, _, path = source.partition(":")
    if kind != "folder" or eval_split == folder.FLAT:
        return False
    files = folder.root_of(data_dir, path).glob("[!.]*/[!.]*")
    return any(file.suffix.lower() in folder.EXTENSIONS for file in files)
