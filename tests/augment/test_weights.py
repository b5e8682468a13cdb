"""Weights from published files, without PyTorch and without running their pickles."""

import io
import pickle
import zipfile

import jax
import numpy as np
import pytest

from nofrost_jax.augment.deepaugment import random_weights, weights
from nofrost_jax.errors import UserError
from nofrost_jax.weights import torch_file

PUBLISHED = {"edsr": "edsr_baseline_x4.pt", "cae": "model_final.state"}


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def zipped(program):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    return file.getvalue()


def stream(program):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(part, 2) for part in parts) + program


def problem(path):
    with pytest.raises(UserError) as info:
        weights.read(str(path))
    message = str(info.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.fixture(scope="module")
def states(reference):
    import torch

    found = {network: reference.state_dict(network) for network in PUBLISHED}
    found["edsr"] |= {f"{name}.{part}": torch.zeros(3) for name in ("sub_mean", "add_mean") for part in ("bias", "x")}
    return found


@pytest.mark.parametrize("wrap", [lambda program: program, zipped, stream], ids=["bare", "zip", "stream"])
def test_a_hostile_file_is_refused_and_nothing_is_run(tmp_path, wrap):
    path, written = tmp_path / "model.pt", tmp_path / "written"
    path.write_bytes(wrap(pickle.dumps({"head.0.weight": Hostile(written)}, 2)))
    message = problem(path)
    assert not written.exists()
    assert "open" in message and "nothing was run" in message
    pickle.loads(pickle.dumps(Hostile(written))).close()
    assert written.exists()  # the file would have done it


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch\n_utils.os.system\n(S'true'\ntR.",  # a dotted name
        b"cbuiltins\ngetattr\n.",
        b"ctorch._utils\n_rebuild_sparse_tensor\n.",
        b"ccollections\nCounter\n.",
    ],
)
def test_names_outside_the_list_are_refused(tmp_path, program):
    path = tmp_path / "model.pt"
    path.write_bytes(zipped(program))
    assert "asks to run" in problem(path)


def test_damaged_files_and_other_nets(tmp_path):
    path = tmp_path / "model.pt"
    for content in (b"", b"hello", zipped(b"\x80\x02"), stream(b"\x80\x02"), zipped(pickle.dumps([1], 2))):
        path.write_bytes(content)
        assert "damaged" in problem(path)
    path.write_bytes(zipped(pickle.dumps({"fc.weight": 1}, 2)))
    assert "another net" in problem(path)
    assert "check the path" in problem(tmp_path / "missing.pt")


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path):
    numbers = np.arange(4, dtype="<f4").tobytes()
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQI0\n(I2\nI3\nt"
    )
    tensor += b"(I3\nI1\ntI00\nNtR"
    file = io.BytesIO(zipped(b"}S'head.0.weight'\n" + tensor + b"s."))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data/0", numbers)
    path = tmp_path / "model.pt"
    path.write_bytes(file.getvalue())
    assert "longer than its numbers" in problem(path)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("network", PUBLISHED)
def test_published_files(reference, states, tmp_path, network, new_format):
    import torch

    path = str(tmp_path / PUBLISHED[network])
    state = {name: tensor.float() for name, tensor in states[network].items()}
    name = next(iter(state))
    state[name] = torch.nn.Parameter(state[name].transpose(2, 3).contiguous().transpose(2, 3))  # strides of its own
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    for name, array in torch_file.read(path).items():
        np.testing.assert_array_equal(array, state[name].detach().numpy(), err_msg=name)
    found, params = weights.read(path)
    assert found == network
    expected = reference.as_params({k: v.detach() for k, v in state.items() if "_mean" not in k})
    assert params.keys() == expected.keys() == weights.NETWORKS[network].SHAPES.keys()
    for name, layer in params.items():
        assert layer["kernel"].dtype == np.float32
        np.testing.assert_array_equal(layer["kernel"], expected[name]["kernel"])
        np.testing.assert_array_equal(layer["bias"], expected[name]["bias"])
    assert weights.digest(weights.load(path, (network,))[network]) == weights.digest(params)


def test_wrong_shapes_and_names_are_named():
    state = {name: np.zeros(shape, np.float32) for name, shape in weights.torch_shapes("cae").items()}
    weights.from_state_dict("cae", state)
    for name, change in [("e_conv_3.0.bias", np.zeros(31)), ("d_block_2.4.weight", None), ("more.weight", 0)]:
        changed = state | {name: np.zeros(3) if change is None else np.asarray(change)}
        with pytest.raises(UserError, match=name):
            weights.from_state_dict("cae", changed)
    with pytest.raises(UserError, match="nothing"):
        weights.from_state_dict("cae", {name: state[name] for name in list(state)[1:]})


@pytest.mark.parametrize(
    ("network", "name", "part", "value", "place", "complaint"),
    [
        ("edsr", "tail.1", "kernel", np.nan, ..., "not finite"),
        ("cae", "d_up_conv_3.3", "bias", -np.inf, 1, "not finite"),
        ("cae", "d_up_conv_3.3", "kernel", 0, ..., "nothing but zeros"),
        ("edsr", "body", "kernel", 0, (3, 1), "nothing but zeros"),  # one convolution of the stack
    ],
)
def test_numbers_that_no_trained_net_has_are_refused(network, name, part, value, place, complaint):
    params = random_weights.random_params(network, 0)
    weights.check_numbers(network, params, "net.pt")
    params[name][part][place] = value
    with pytest.raises(UserError, match=complaint) as info:
        weights.check_numbers(network, params, "net.pt")
    assert f"the {part} of {name}" in str(info.value)


def test_random_weights():
    params = weights.load("random:3", ("edsr", "cae"))
    counts = [sum(leaf.size for leaf in jax.tree.leaves(params[network])) for network in params]
    assert counts == [1_517_571, 2_241_859]  # as published
    assert weights.digest(params["cae"]) == weights.digest(random_weights.random_params("cae", 3))
    assert weights.digest(params["cae"]) != weights.digest(random_weights.random_params("cae", 4))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "no weights for edsr"), ("random:x", "whole number"), ("none.pt", "none.pt")],
)
def test_what_the_loader_refuses(text, complaint):
    with pytest.raises(UserError, match=complaint):
        weights.load(text, ("edsr",))
