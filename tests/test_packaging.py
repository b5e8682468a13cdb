"""pyproject.toml and the requirement files ask for the same packages."""

import tomllib

from packaging.requirements import Requirement

from tests.conftest import ROOT


def requirements(name):
    """{package: requirement} of a requirement file and those that it includes."""
    found = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())):
        kind, _, other = line.partition(" ")
        found |= requirements(other) if kind == "-r" else {Requirement(line).name: Requirement(line)}
    return found


def test_extras_and_requirement_files_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base, extras = project["dependencies"], project["optional-dependencies"]

    def packages(*names):
        lines = [line for name in names for line in extras[name]]
        return {Requirement(line).name: Requirement(line) for line in [*base, *lines]}

    assert packages("train", "tfds") == requirements("requirements.txt")
    assert packages("train", "tfds", "report", "test") == requirements("requirements-test.txt")
    assert not {"tensorflow", "tensorflow-cpu", "clu"} & packages().keys()


def test_files_beside_the_code_are_installed():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {path for path in (ROOT / "nofrost_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    listed = {
        path
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    assert {path for path in found if path.suffix != ".py"} == listed
