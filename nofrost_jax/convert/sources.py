"""Nets by name: a run, a step of it, an export, a file of weights, a repository on the Hugging Face hub."""

import dataclasses
import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from nofrost_jax import buckets, checkpoint, errors, files, models, weights
from nofrost_jax.classifier import check_net, create_model
from nofrost_jax.convert import families, hub, resolved, saved
from nofrost_jax.convert.timm import from_timm
from nofrost_jax.data import catalog, folder, values
from nofrost_jax.errors import UserError
from nofrost_jax.fields import to_plain
from nofrost_jax.weights.tensors import NAME as WEIGHTS

_SMALL = 32  # pixels a side of the images of a net with a small stem, unless said otherwise


@dataclasses.dataclass(frozen=True)
class Net:
    """A net that was found. config: the resolved config as text; provenance: a plain dict on where it is from; notes:
    what a user should know, one line each; folder: the run's or the export's, "" if there is none."""

    model: nn.Module
    variables: Any
    config_json: str
    class_names: tuple[str, ...] | None
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
    folder: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain dicts."""
        return json.loads(self.config_json)

    @property
    def parameter_count(self) -> int:
        """How many numbers were trained."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a file of weights does not say: the radius of attacks in pixel values, the images' side and the short side
    from which they are cropped in pixels (0: no resize), mean and std of the normalization. None: the file's own, or
    the usual on ImageNet."""

    epsilon_255: float | None = None
    image_size: int | None = None
    eval_resize: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read(source: str | os.PathLike, setting: Setting | None = None) -> Net:
    """The net in `source`: the folder of a run (its newest or selected checkpoint), RUN/checkpoints/STEP, the folder of
    an export, each also gs://BUCKET/PATH; a .pth, .pt or .safetensors file, or hf://OWNER/NAME[@REVISION]. setting:
    for files of weights only.

    Raises UserError if there is none, or it cannot be read or trusted.
    """
    source = os.fspath(source)
    if hub.is_address(source):
        place, about = hub.download(source)
        has_config = os.path.exists(os.path.join(place, "config.json"))
        ours = has_config and "evaluation" in checkpoint.read_config(place)
        net = read(place if ours else _file_in(place, source), setting)
        return dataclasses.replace(net, provenance=net.provenance | {"source": source} | about)
    path = os.path.expanduser(source)
    if os.path.isfile(path):
        return _of_weights(path, setting or Setting())
    if files.is_url(source):
        buckets.require(source, source)
    if not files.is_folder(checkpoint.split_step(path)[0]):
        raise UserError(
            f"there is no {source}; give a .pth or .safetensors file, the folder of a run or an export, or "
            f"{hub.SCHEME}OWNER/NAME"
        )
    if setting and (given := _given(setting)):
        raise UserError(f"{source} has a config of its own; leave out {', '.join(given)}")
    return _of_folder(path)


def _given(setting: Setting) -> list[str]:
    return [f"--{name}" for name, value in dataclasses.asdict(setting).items() if value is not None]


def _of_folder(path: str) -> Net:
    run, _ = checkpoint.split_step(path)
    config = checkpoint.read_config(run)
    resolved.check(config, resolved.NET, f"{run}/config.json")
    try:
        model = create_model(ConfigDict(config["model"]))
        abstract = models.abstract_variables(model, config["data"]["image_size"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        why = f"config.model: {' '.join(str(error).split())[:160]}"
        raise UserError(f"{run}/config.json is no resolved config of nofrost_jax ({why}); give a run's own") from error
    step, variables, meta = checkpoint.load_variables(path, abstract)
    about = meta.get("about", {})
    found = {"source": path, "step": step if step >= 0 else about.get("step")}
    if step >= 0:
        found |= {"run": os.path.basename(files.absolute(run)), "selection": meta.get("selection")}
    found |= {name: value for name, value in about.items() if name not in ("class_names", "step")}
    found["params_sha256"] = checkpoint.tree_sha256(variables)
    text = files.read(os.path.join(run, "config.json")).decode()
    # Of an export the names that it kept: its config may name any folder of this machine.
    names = class_names(config) if step >= 0 else _kept(about.get("class_names"), config["model"]["num_classes"])
    return Net(model, variables, text, names, found, folder=run)


def _kept(names: Any, classes: int) -> tuple[str, ...] | None:
    fits = isinstance(names, list) and len(names) == classes and all(isinstance(name, str) for name in names)
    return tuple(names) if fits else None


def _of_weights(path: str, setting: Setting) -> Net:
    tensors = weights.read(path)
    with errors.about(path):
        state = saved.cleaned(tensors)
        config, notes = _config(families.section(state.weights), state.normalization, setting)
        model = create_model(config.model)
        variables = from_timm(state.weights, model, jax.device_put)
    found = {
        "source": path,
        "step": None,
        "file": os.path.basename(path),
        "file_sha256": files.file_sha256(path),
        "normalization": "given" if setting.mean else "the file's" if state.normalization else "ImageNet's",
        "params_sha256": checkpoint.tree_sha256(variables),
    }
    plain = to_plain(config)
    return Net(model, variables, json.dumps(plain, indent=2) + "\n", class_names(plain), found, tuple(notes))


def _config(section: dict[str, Any], normalization: Any, setting: Setting) -> tuple[ConfigDict, list[str]]:
    """(the resolved config of a net that was not trained here, notes). Its training is configs/st_r50.py's, unused."""
    plain = json.loads(resources.files("nofrost_jax.convert").joinpath("imagenet.json").read_text())
    plain["model"] |= section
    data, notes = plain["data"], []
    if setting.mean or setting.std:
        if not (setting.mean and setting.std):
            raise UserError("--mean and --std belong together; give both, or neither")
        data |= {"mean": list(setting.mean), "std": list(setting.std)}
    elif normalization:
        data |= dict(zip(("mean", "std"), map(list, normalization), strict=True))
    else:
        notes.append("no layer in the file normalizes images: ImageNet's mean and std are taken (--mean, --std)")
    if setting.image_size is not None and setting.image_size < 1:
        raise UserError(f"--image_size={setting.image_size} must be a number of pixels, e.g. 224")
    if section["stem"] == "small":
        side, resize = setting.image_size or _SMALL, 0
        notes.append(f"its 3x3 stem is taken as one of stride 1 without pooling, on {side} pixels (--image_size)")
    else:
        side = setting.image_size or data["image_size"]
        resize = data["eval_resize"] * side // data["image_size"]
    data |= {"image_size": side, "eval_resize": resize if setting.eval_resize is None else setting.eval_resize}
    if 0 < data["eval_resize"] < side:
        raise UserError(f"--eval_resize={data['eval_resize']} must be at least the {side} pixels of the crop, or 0")
    if setting.epsilon_255 is not None:
        if not 0.1 <= setting.epsilon_255 <= 255:
            raise UserError(f"--epsilon_255={setting.epsilon_255:g} must be in pixel values, 0.1 to 255: 8/255 is 8")
        for attack in (plain["attack"], *plain["evaluation"]["attacks"].values()):
            attack["epsilon_255"] = setting.epsilon_255
    config = ConfigDict(plain)
    values.check(config.data)
    check_net(config)
    return config, notes


def _file_in(place: str, source: str) -> str:
    path = os.path.join(place, WEIGHTS)
    if not os.path.exists(path):
        raise UserError(f"{source} has no {WEIGHTS}; download a file of weights from it, and give that file")
    return path


def class_names(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Names of a net's classes in the order of their labels, where its data is here and names as many; else None.
    ImageNet's are WordNet ids, known where the package of tfds is installed."""
    classes, (kind, _, _) = config["model"]["num_classes"], config["data"]["source"].partition(":")
    names: Sequence[str] = ()
    try:
        if kind == "digits":
            names = tuple("0123456789")
        elif kind == "folder" and catalog.is_present(config["data"]["source"], config["data"]["data_dir"]):
            names = catalog.open_config(ConfigDict(config)).class_names
        elif config["data"]["source"] == "tfds:imagenet2012":
            names = folder.imagenet_list("labels.txt", "")
    except UserError:  # the data is not here, or not as the net knew it: its names are not known
        return None
    return tuple(names) if len(names) == classes else None
