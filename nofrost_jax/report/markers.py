"""Tables in a document: each stands between the line `<!-- table NAME -->` and the next `<!-- end -->`."""

import os
import re
from collections.abc import Callable, Mapping

from nofrost_jax import errors, files

END = "<!-- end -->"


def names(text: str) -> list[str]:
    """The names of the tables that a text has a place for."""
    return re.findall(r"^\s*<!-- table (.+?) -->\s*$", text, re.M)


def insert(text: str, name: str, content: str) -> str:
    """`text` with `content` between the line `<!-- table NAME -->` and the next `<!-- end -->`.

    Raises UserError where one of the lines is missing, or the first is there twice.
    """
    lines, start = text.split("\n"), f"<!-- table {name} -->"
    stripped = [line.strip() for line in lines]
    if stripped.count(start) != 1:
        raise errors.UserError(f"the line {start} occurs {stripped.count(start)} times in the file; it must occur once")
    first = stripped.index(start)
    after = stripped[first + 1 :]
    if END not in after or any(line.startswith("<!-- table ") for line in after[: after.index(END)]):
        raise errors.UserError(f"no line {END} follows {start} in the file; add it where the table ends")
    return "\n".join([*lines[: first + 1], content, *lines[first + 1 + after.index(END) :]])


def require(path: str | os.PathLike) -> None:
    """Raises UserError unless the file at `path` has a place for a table, and an end for each."""

    def check(found):
        if not found:
            raise errors.UserError(
                "it has no line <!-- table NAME -->; put one, and a line <!-- end -->, where it goes"
            )
        return dict.fromkeys(found, "")

    _replaced(path, check)


def write_into(path: str | os.PathLike, name: str, content: str) -> None:
    """Replaces the table NAME in the file at `path`, whole or not at all."""
    write_all(path, lambda found: {name: content})


def write_all(path: str | os.PathLike, make: Callable[[list[str]], Mapping[str, str]]) -> None:
    """Replaces tables in the file at `path`, all or none. make: from the names of its tables to {name: content}."""
    try:
        files.write(path, _replaced(path, make))
    except OSError as error:
        raise errors.refused(f"{path} cannot be changed", error, "give a file with the markers") from error


def _replaced(path: str | os.PathLike, make: Callable[[list[str]], Mapping[str, str]]) -> str:
    try:
        with open(path) as file:
            text = file.read()
        for name, content in make(names(text)).items():
            text = insert(text, name, content)
        return text
    except OSError as error:
        raise errors.refused(f"{path} cannot be read", error, "give a file with the markers") from error
    except UnicodeDecodeError as error:
        raise errors.UserError(f"{path} is not a text; give a file with the markers") from error
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error
