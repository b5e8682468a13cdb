"""The commands that the texts of this repository tell people to type."""

import ast
import re

from tests.conftest import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", "RESULTS.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
PROGRAMS = [path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "__init__.py"]
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:python|launch/\S+) \S")


def commands():
    """{command: the texts that have it}, without comments, with single spaces."""
    found = {}
    for page in PAGES:
        for command in _of_page((ROOT / page).read_text()):
            found.setdefault(command, set()).add(page)
    for path in PROGRAMS:
        for command in _of_docstring(ast.get_docstring(ast.parse(path.read_text())) or ""):
            found.setdefault(command, set()).add(str(path.relative_to(ROOT)))
    return found


def _of_page(text):
    """Of Markdown: the lines of its code blocks, and code within its lines."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    pieces = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    pieces += [
        " ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]
    return _commands(pieces)


def _of_docstring(text):
    """Its indented lines."""
    return _commands(line for line in text.replace("\\\n", " ").splitlines() if line.startswith("    "))


def _commands(lines):
    for line in lines:
        for piece in line.split("&&"):
            command = " ".join(re.split(r"\s{2,}(?![\s-])", piece.strip())[0].split())  # a comment follows two spaces
            if COMMAND.match(command):
                yield command
