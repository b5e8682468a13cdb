"""The house's rules, read off the syntax tree: imports run downwards, one room says pmap, one room loads TensorFlow."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "nofrost_jax"
FLOORS = [  # from the cellar up; a room may import rooms of lower floors, and the listed neighbours on its own
    {"signals", "progress", "tables", "picture_grid", "flag_texts", "forwarding"},
    {"errors", "keys"},
    {"buckets"},
    {"files"},
    {"fields"},
    {"lock", "digests", "command_line", "peers", "compiled", "accelerators"},
    {"bucket_lock"},
    {"models", "attacks", "metrics", "parallel", "processes", "state", "report", "weights"},
    {"saving"},
    {"classifier", "checkpoint", "optim", "analysis"},
    {"augment"},
    {"data"},
    {"corruptions", "convert"},
    {"evaluation", "methods", "loading"},
    {"shift", "recipes"},
    {"selection", "workdir", "names", "costs"},
    {"config", "scale"},
    {"evaluate"},
    {"train", "dry_run", "tools"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    """(module, whether at module level) of every import in a file."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, id(node) in top
            if node.module == "nofrost_jax":
                yield from ((f"nofrost_jax.{alias.name}", id(node) in top) for alias in node.names)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    for module, _ in imported(path):
        parts = module.split(".")
        if parts[0] == "nofrost_jax" and len(parts) > 1 and parts[1] != room(path):
            assert FLOOR[parts[1]] < FLOOR[room(path)], f"{path} imports {module}, which is not on a lower floor"


def test_no_file_imports_itself_by_way_of_others():
    """Imports inside of functions count, too; `from package import module` is the module's alone."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    graph = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                modules = {f"{node.module}.{alias.name}" for alias in node.names} & names.keys()
                graph[name] |= modules or ({node.module} & names.keys())
    assert "nofrost_jax.data.digits" in graph["nofrost_jax.data.catalog"]
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the files


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_keep_to_their_libraries(path):
    modules = {module.split(".")[0] for module, _ in imported(path)}
    at_import = {module.split(".")[0] for module, top in imported(path) if top}
    assert not at_import & {"tensorflow", "tensorflow_datasets", "clu", "torch", "timm"}
    if room(path) != "data":
        assert not modules & {"tensorflow", "tensorflow_datasets"}
    if room(path) != "metrics":
        assert "clu" not in modules
    if room(path) == "report":
        assert not modules & {"jax", "flax"}
    if room(path) == "attacks":
        assert modules <= {"jax", "nofrost_jax", "collections", "dataclasses", "typing", "functools", "math"}
    if room(path) != "parallel":
        assert "pmap" not in path.read_text()


def test_configs_import_no_jax():
    for path in (ROOT / "configs").rglob("*.py"):
        assert {module.split(".")[0] for module, _ in imported(path)} <= {
            "ml_collections",
            "configs",
        } | sys.stdlib_module_names, path


def test_files_stay_readable():
    assert len((ROOT / "main.py").read_text().splitlines()) <= 60
    assert len((PACKAGE / "train.py").read_text().splitlines()) <= 270
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 320, path


def test_importing_the_package_and_its_reader_side_loads_neither_tensorflow_nor_clu():
    code = (
        "import sys, nofrost_jax\n"
        "nofrost_jax.load, nofrost_jax.autoattack, nofrost_jax.attacks, nofrost_jax.models, nofrost_jax.data\n"
        "import nofrost_jax.classifier, nofrost_jax.checkpoint, nofrost_jax.train\n"
        "print(sorted({'tensorflow', 'clu', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
