"""A net is known by its tensors; what is converted gives PyTorch's logits, and takes an evaluation, by one command."""

import json

import jax
import numpy as np
import pytest

import nofrost_jax
from configs import st_r50
from nofrost_jax import evaluate, models
from nofrost_jax.checkpoint import tree_sha256
from nofrost_jax.config import of_run, prepare
from nofrost_jax.convert import __main__ as convert
from nofrost_jax.convert import families
from nofrost_jax.convert.sources import Setting, read
from nofrost_jax.convert.timm import from_timm
from nofrost_jax.errors import UserError
from nofrost_jax.fields import to_plain
from tests.conftest import ROOT
from tests.models import reference

torch = pytest.importorskip("torch", reason="PyTorch writes the files: requirements-parity.txt")
TINY = {"num_classes": 5, "width": 0.125, "stage_sizes": (1, 2)}
BASIC = {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "fc.weight": (10, 512)}
BASIC["layer1.0.conv2.weight"] = (64, 64, 3, 3)
KEPT = ("name", "norm", "num_classes", "width", "stage_sizes", "stem")


def weights_of(model):
    return reference.state_dict(reference.torch_shapes(model))


def save(path, weights, wrap=lambda state: state):
    torch.save(wrap({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}), path)
    return path


@pytest.fixture(scope="module")
def tiny():
    """(model, weights, the variables that they become)."""
    model = models.create("resnet26", **TINY)
    return model, weights_of(model), from_timm(weights_of(model), model)


def test_the_config_of_what_was_not_trained_here_is_that_of_st_r50():
    ours = json.loads((ROOT / "nofrost_jax/convert/imagenet.json").read_text())
    assert ours == to_plain(prepare(st_r50.get_config()))


@pytest.mark.parametrize("name", models.NAMES)
def test_a_net_is_known_by_its_tensors(name):
    model = models.create(name, num_classes=7)
    shapes = {key: np.broadcast_to(np.float32(0), shape) for key, shape in reference.torch_shapes(model).items()}
    expected = {"name": name, "norm": "bn", "num_classes": 7, "width": 1.0, "stage_sizes": (), "stem": "imagenet"}
    assert families.section(shapes) == expected


@pytest.mark.parametrize("stem", models.STEMS)
@pytest.mark.parametrize("name", ["nf_resnet50", "resnet50", "wide_resnet50_2"])
def test_so_are_other_depths_and_widths(name, stem):
    options = TINY | {"name": name, "norm": "bn", "stem": stem}
    weights = weights_of(models.create(**options))
    assert families.section(weights) == {key: options[key] for key in KEPT}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blocks.0.attn.qkv.weight": (9, 3)}, "a vision transformer .1 tensors: blocks.0.attn.qkv.weight"),
        (BASIC, "basic blocks"),
        ({"conv1.0.weight": (32, 3, 3, 3), "bn1.running_mean": (64,)}, "another stem"),
        ({"block1.layer.0.conv1.weight": (160, 16, 3, 3)}, "a CIFAR WideResNet"),
        ({"features.denseblock1.denselayer1.conv1.weight": (128, 64, 1, 1)}, "a DenseNet"),
        ({"x.weight": (3, 3)}, "another net"),
        ({"epoch": (1,)}, "no net"),
        ({}, "no tensors"),
    ],
)
def test_another_net_is_refused_by_what_it_is(tensors, words):
    with pytest.raises(UserError, match=words) as caught:
        families.section({name: np.zeros(shape) for name, shape in tensors.items()})
    assert "convert takes" in str(caught.value) and "\n" not in str(caught.value)


def test_grouped_convolutions_are_refused():
    weights = weights_of(models.create("resnet26", **TINY))
    weights["layer1.0.conv2.weight"] = weights["layer1.0.conv2.weight"][:, :2]
    with pytest.raises(UserError, match="these are the weights of a ResNet of other blocks"):
        families.section(weights)


def test_the_command_makes_an_export_that_load_and_evaluate_take(tiny, tmp_path, capsys):
    _, weights, expected = tiny
    path = save(tmp_path / "best_RA.pth", {f"module.{name}": value for name, value in weights.items()})
    convert.main([str(path), str(tmp_path / "out"), "--epsilon_255=4", "--image_size=40"])
    assert "resnet26, 5 classes" not in capsys.readouterr().err
    one, other = nofrost_jax.load(tmp_path / "out"), nofrost_jax.load(path)
    for classifier in (one, other):
        jax.tree.map(np.testing.assert_array_equal, dict(classifier.variables), expected)
        assert classifier.provenance["params_sha256"] == tree_sha256(expected)
        assert classifier.provenance["file"] == "best_RA.pth" and len(classifier.provenance["file_sha256"]) == 64
        assert classifier.class_names is None
    config, left_out = of_run(str(tmp_path / "out"), None)
    assert not left_out and to_plain(config) == one.config
    assert evaluate._restore(config, str(tmp_path / "out"))[1]["file"] == "best_RA.pth"  # results say so
    assert one.config["attack"]["epsilon_255"] == one.config["evaluation"]["attacks"]["pgd_20"]["epsilon_255"] == 4
    assert (one.config["data"]["image_size"], one.config["data"]["eval_resize"]) == (40, 45)
    assert other.config["data"]["image_size"] == 224 and one.mean == (0.485, 0.456, 0.406)


def test_the_layer_that_normalizes_becomes_the_config(tiny, tmp_path):
    """As robustness saves it: every tensor twice, mean and std at two places."""
    _, weights, expected = tiny
    mean, std = np.float32([0.4, 0.5, 0.6]).reshape(3, 1, 1), np.float32([0.2, 0.3, 0.25]).reshape(3, 1, 1)
    state = {"module.normalizer.new_mean": mean, "module.normalizer.new_std": std}
    state |= {"module.attacker.normalize.new_mean": mean, "module.attacker.normalize.new_std": std}
    state |= {f"module.{part}model.{name}": value for part in ("", "attacker.") for name, value in weights.items()}
    save(tmp_path / "linf.pt", state, lambda state: {"model": state, "epoch": 90, "args": None})
    net = read(tmp_path / "linf.pt")
    jax.tree.map(np.testing.assert_array_equal, net.variables, expected)
    assert net.config["data"]["mean"] == [0.4, 0.5, 0.6] and net.config["data"]["std"] == [0.2, 0.3, 0.25]
    assert not net.notes and net.provenance["normalization"] == "the file's"
    given = read(tmp_path / "linf.pt", Setting(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    assert given.config["data"]["mean"] == [0.5] * 3 and given.provenance["normalization"] == "given"
    save(tmp_path / "two.pt", state | {"mean": mean / 2})
    with pytest.raises(UserError, match=r"two.pt: .* normalize the images in different ways"):
        read(tmp_path / "two.pt")
    save(tmp_path / "scale.pt", state | {name: value * 255 for name, value in state.items() if "_mean" in name})
    with pytest.raises(UserError, match=r"\[0, 255\] scale"):
        read(tmp_path / "scale.pt")


def test_two_nets_in_one_file_are_refused(tiny, tmp_path):
    _, weights, _ = tiny
    with pytest.raises(UserError, match=r"two different tensors conv1.weight"):
        read(save(tmp_path / "two.pth", weights | {"module.conv1.weight": weights["conv1.weight"] + 1}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epsilon_255=0.0157"], "pixel values"),
        (["--mean=0.5,0.5,0.5"], "--mean and --std belong together"),
        (["--mean=0.5,0.5", "--std=0.5,0.5"], "three values"),
        (["--mean=a,b,c"], "--mean"),
        (["--eval_resize=100"], "at least the 224 pixels"),
        (["--image_size=0"], "image_size"),
        (["--push=nothing"], "OWNER/NAME"),
    ],
)
def test_wrong_options_are_one_line(tiny, tmp_path, capsys, options, words):
    save(tmp_path / "net.pth", tiny[1])
    with pytest.raises(SystemExit, match="2"):
        convert.main([str(tmp_path / "net.pth"), str(tmp_path / "out"), *options])
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_no_export_replaces_one_of_other_weights(tiny, tmp_path, capsys):
    _, weights, expected = tiny
    out = tmp_path / "out"
    convert.main([str(save(tmp_path / "best_SA.pth", weights)), str(out)])
    convert.main([str(tmp_path / "best_SA.pth"), str(out)])  # the same again
    save(tmp_path / "best_RA.pth", weights | {"fc.bias": weights["fc.bias"] + 1})
    with pytest.raises(SystemExit, match="2"):
        convert.main([str(tmp_path / "best_RA.pth"), str(out)])
    assert "other weights" in capsys.readouterr().err
    jax.tree.map(np.testing.assert_array_equal, dict(nofrost_jax.load(out).variables), expected)
    (out / "model.safetensors").write_bytes(b"")  # a damaged one may be replaced
    convert.main([str(tmp_path / "best_RA.pth"), str(out)])


@pytest.mark.parametrize("name", models.NAMES)
def test_logits_are_those_of_pytorch_at_224_pixels(name, tmp_path):
    """Random weights, gains and running statistics of a kind that no branch is dead; a probe batch of two."""
    try:
        timm = reference.import_timm()
    except ImportError as error:
        pytest.skip(f"needs timm: {error}")
    weights = weights_of(models.create(name))
    net = reference.timm_network(timm, name, weights, 1000).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
    images = reference.stream("probe").uniform(size=(2, 224, 224, 3)).astype(np.float32)
    classifier = nofrost_jax.load(tmp_path / "net.pth")
    with torch.no_grad():
        normalized = (images - np.float32(classifier.mean)) / np.float32(classifier.std)
        expected = net(torch.from_numpy(normalized).permute(0, 3, 1, 2).contiguous()).numpy()
    logits = np.asarray(jax.jit(lambda classifier, images: classifier.logits(images))(classifier, images))
    assert np.ptp(expected) > 0.1 and reference.relative_error(logits, expected) < reference.TOLERANCE
