"""A config.json that nobody vouches for, e.g. from the hub: `load` takes it, or one line says what is wrong."""

import json
import math
import shutil

import pytest

import nofrost_jax
from nofrost_jax.convert import sources
from nofrost_jax.data import catalog
from nofrost_jax.errors import UserError
from nofrost_jax.weights import tensors
from tests.conftest import ROOT

DIGITS = ROOT / "notebooks/digits_nofrost"
MISSING = object()


@pytest.fixture
def copy(tmp_path):
    """An export whose config can be changed."""
    folder = tmp_path / "net"
    shutil.copytree(DIGITS, folder)
    return folder


def change(folder, field, value):
    path = folder / "config.json"
    config = section = json.loads(path.read_text())
    *sections, name = field.split(".")
    for one in sections:
        section = section[one]
    section.pop(name) if value is MISSING else section.update({name: value})
    path.write_text(json.dumps(config))


WRONG = [
    *[("data.image_size", value) for value in ("x", -1, None, 8.5, True, 10**9)],
    *[("data.mean", value) for value in (MISSING, "x", [0.5] * 2, [0.5, "x", 0.5], [math.nan] * 3, [[]] * 3)],
    *[("data.std", value) for value in ([0, 0, 0], [-1.0] * 3, {}, [math.inf] * 3)],
    *[("model.width", value) for value in (math.nan, math.inf, 10**400, "x", 0)],
    *[("model.bn_group_size", value) for value in ("x", "-1", "9" * 10_000, [], 1.5)],
    *[("model.stage_sizes", value) for value in ([10**9], ["x"], [[1]], 3, [1] * 5)],
    *[("model.num_classes", value) for value in (0, "x", 10**12)],
    *[("model.name", value) for value in (7, "vit")],
    *[("model.dropout", value) for value in ("x", {"a": {}}, 2)],
    *[("evaluation.mbn_gamma", value) for value in (MISSING, "x", 2)],
    *[(section, value) for section in ("model", "data", "evaluation") for value in (MISSING, 5, "mean", [])],
    ("model.more", 1),
    ("model.dtype", []),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_one_line(copy, field, value):
    change(copy, field, value)
    with pytest.raises(UserError) as caught:
        nofrost_jax.load(copy)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert "config.json" in message or "config.model" in message


@pytest.mark.parametrize("text", ["5", "{", "[" * 50_000, '{"a":' * 50_000, "\udcff", ""])
def test_what_is_no_config_is_one_line(copy, text):
    (copy / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"cannot read .*config\.json") as caught:
        nofrost_jax.load(copy)
    assert "\n" not in str(caught.value)


def test_a_deep_value_in_the_config_is_one_line(copy):
    deep = []
    for _ in range(400):
        deep = [deep]
    change(copy, "model.dropout", deep)
    with pytest.raises(UserError, match="no resolved config"):
        nofrost_jax.load(copy)


def test_an_export_never_looks_for_its_data(copy, tmp_path, monkeypatch):
    """A config from the hub may name any folder of the reader's machine."""
    change(copy, "data.source", f"folder:{tmp_path}")
    monkeypatch.setattr(catalog, "is_present", lambda *_: pytest.fail("it looked"))
    assert nofrost_jax.load(copy).class_names == tuple("0123456789")  # kept by the export
    arrays, about = tensors.read(copy / tensors.NAME)
    arrays = {name: array.copy() for name, array in arrays.items()}
    for kept in (None, 5, "0123456789", ["a", "b"], [1] * 10):
        tensors.write(copy / tensors.NAME, arrays, about | {"class_names": kept})
        assert nofrost_jax.load(copy).class_names is None


def test_a_config_of_ours_is_taken(copy):
    assert sources.read(copy).config["model"]["name"] == "nf_resnet26"
