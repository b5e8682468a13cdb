"""Every notebook runs from top to bottom without an error, and without TensorFlow and clu."""

import re

import pytest

from tests.conftest import ROOT, environment

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed; see requirements-test.txt")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed; see requirements-test.txt")
pytest.importorskip("ipykernel", reason="ipykernel is not installed; see requirements-test.txt")
pytest.importorskip("matplotlib", reason="matplotlib is not installed; see requirements-test.txt")

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NO_TENSORFLOW = """
import sys
assert not {"tensorflow", "clu", "tensorboard"} & {name.split(".")[0] for name in sys.modules}
"""


def read(path, cells=None):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = notebook.cells[:cells]
    return notebook


def execute(notebook, folder):
    """Runs a notebook as Jupyter does with `folder` as its directory; raises CellExecutionError at the first error."""
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute(env=environment())


def printed(notebook):
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )


def clean_accuracy(notebook):
    return float(re.search(r"clean accuracy: ([0-9.]+)", printed(notebook))[1])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_notebook_runs_without_tensorflow(path):
    notebook = read(path)
    committed = clean_accuracy(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(NO_TENSORFLOW))
    notebook = execute(notebook, FOLDER)
    assert clean_accuracy(notebook) > 0.95
    assert clean_accuracy(notebook) == pytest.approx(committed, abs=0.005), "execute the notebook again and save it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cell_finds_the_package_from_the_root_too(path):
    assert "nofrost_jax" in printed(execute(read(path, cells=2), ROOT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_whole_and_small(path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000


def test_there_is_a_quickstart():
    assert FOLDER / "quickstart.ipynb" in NOTEBOOKS


def test_the_checkpoint_is_small():
    files = [path for path in (FOLDER / "digits_nofrost").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["README.md", "config.json", "model.safetensors"]
    assert sum(path.stat().st_size for path in files) < 1_000_000
