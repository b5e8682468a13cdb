"""Every result file under a folder, and the nets that they measured. Files are read with care (`reading`): one that is
damaged or of something else is listed with the reason."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nofrost_jax import errors
from nofrost_jax.report import attacked, commands, images, reading
from nofrost_jax.report.exhibits import EXHIBITS, name_of, row_of
from nofrost_jax.report.images import IMAGENET as IMAGENET

_WIDE_FLAGS = {"partial", "probabilities", "randomised", "selected_on_evaluation"}  # of a result: for all its values
OTHER_SETTINGS = "other_settings"  # flag of an attack that is not as on most nets of the data set
_SPECIAL_RADII = {net.epsilon_255 for one in EXHIBITS.values() for net in one.nets} - {None}


@dataclasses.dataclass(frozen=True)
class Refused:
    """A file that is not used. path: below the folder."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A result file. folder: the collection's; path: below it; result: the JSON's content, checked by
    `reading.RESULT`; config: the run's config.json, None where it is not there."""

    folder: str
    path: str
    result: dict[str, Any]
    config: dict[str, Any] | None

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns of its .npz by name, each [N]; {} where it is not there. Raises ValueError for a bad file."""
        return reading.read_arrays(os.path.join(self.folder, self.path.removesuffix(".json") + ".npz"))

    @property
    def command(self) -> str:
        """A command that makes the result again."""
        run = os.path.join(self.folder, os.path.dirname(os.path.dirname(self.path)))
        return commands.evaluate(self.result, "" if self.config is None else run)


@dataclasses.dataclass(frozen=True)
class Value:
    """A number of a result. accuracy: a fraction, or a property's mean. ci95: None where it is not known. key: the
    attack, "clean", "properties.NAME" or "shift.NAME". n: images. settings: of an attack, otherwise ()."""

    accuracy: float
    ci95: tuple[float, float] | None
    n: int
    flags: tuple[str, ...]
    key: str
    evaluation: Evaluation
    settings: attacked.Settings = ()

    @property
    def path(self) -> str:
        return self.evaluation.path

    @property
    def command(self) -> str:
        return self.evaluation.command


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A net: all evaluations of the same parameters on the same data, prepared alike, of a mixture-BN net also at the
    same weight.

    row: of configs/methods.py, "" for one of no row, not known or trained elsewhere; depth: 26, 50, or None for a
    miniature; epsilon_255: the radius of its training, None: not known; source: name of the data set; gamma,
    interpolation, p: of a mixture.
    """

    evaluations: tuple[Evaluation, ...]
    source: str
    row: str
    method: str
    depth: int | None
    epsilon_255: float | None
    attack_norm: str
    seed: int
    recipe: str
    gamma: float | None = None
    interpolation: str = ""
    p: float | None = None
    settings: tuple[tuple[str, Any], ...] = ()  # of its training; seeds of one net share them
    usual: Mapping[str, attacked.Settings] = dataclasses.field(default_factory=dict)  # attacks of the data set's nets

    @property
    def label(self) -> str:
        """The method, and a mixture's weight."""
        if self.gamma is None:
            return self.method
        how = "" if self.interpolation == "logits" else f", {self.interpolation}"
        share = "" if self.p is None else f" {self.p:.0%}"
        return f"{self.method}, gamma {self.gamma:g}{how}{share}"

    @property
    def folder(self) -> str:
        """Of its first result."""
        return os.path.dirname(os.path.dirname(self.evaluations[0].path)) or "."


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """What a folder holds. studies: (path, content of a study.json) pairs."""

    folder: str
    nets: tuple[Measured, ...]
    evaluations: tuple[Evaluation, ...]
    studies: tuple[tuple[str, dict[str, Any]], ...]
    refused: tuple[Refused, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The data sets, ImageNet first."""
        return tuple(sorted({net.source for net in self.nets}, key=lambda name: (name != IMAGENET, name)))

    def of(self, source: str, row: str, depth: int, epsilon_255: float | None = None) -> list[Measured]:
        """The nets of a row on a data set. Outside of ImageNet nets of another depth stand in where there are none of
        this one. epsilon_255: of the training; None: that of most of the data set's nets, if it can be none of the
        radii of single tables, of ImageNet's 8."""
        here = [net for net in self.nets if net.source == source]
        is_other = source != IMAGENET and all(net.depth != depth for net in here)
        radii = [net.epsilon_255 for net in here if net.epsilon_255 is not None]
        radii = [radius for radius in radii if radius not in _SPECIAL_RADII] or radii
        usual = 8.0 if source == IMAGENET else max(radii, key=lambda one: (radii.count(one), one), default=None)
        wanted = usual if epsilon_255 is None else epsilon_255
        mine = [net for net in here if net.row == row and net.epsilon_255 == wanted]
        return [net for net in mine if is_other or net.depth == depth]


def collect(folder: str | os.PathLike) -> Collection:
    """Reads every result file below a folder. Raises UserError where there is no such folder."""
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise errors.UserError(f"{folder} is not a folder; give one with runs, or with result files")
    found, studies, refused = [], [], []
    for path, reason in reading.json_files(folder):
        if os.path.basename(path) in ("config.json", "identity.json") and not reason:
            continue
        try:
            if reason:
                raise ValueError(reason)
            value = _read(folder, path)
        except ValueError as error:
            refused.append(Refused(path, reading.printable(str(error))))
            continue
        if isinstance(value, Evaluation):
            found.append(value)
        elif value:
            studies.append((path, value))
    return Collection(folder, tuple(_nets(found)), tuple(found), tuple(studies), tuple(refused))


def _read(folder: str, path: str) -> Evaluation | dict | None:
    """A result, a study, or None for another JSON file outside of the folders `evaluations`. Raises ValueError."""
    parent = os.path.dirname(path)
    is_ours = os.path.basename(parent or os.path.abspath(folder)) == "evaluations"
    try:
        value = reading.read_json(os.path.join(folder, path))
    except ValueError:
        if is_ours or os.path.basename(path).startswith("study"):
            raise
        return None
    if isinstance(value, dict) and {"study", "runs"} <= value.keys():
        reading.check(value, reading.STUDY)
        return value
    if not isinstance(value, dict) or not {"schema", "checkpoint"} <= value.keys():
        if is_ours:
            raise ValueError("it is not an evaluation result")
        return None
    if value["schema"] != 1:
        raise ValueError(f"it is of schema {reading.short(value['schema'])}; this version reads schema 1")
    reading.check(value, reading.RESULT)
    if value["dataset"]["split"].startswith(("holdout", "train")):
        raise ValueError("it is of images held out of the training set, not of the test images")
    config = _config(os.path.join(folder, os.path.dirname(parent), "config.json"))
    return Evaluation(folder, path, value | {"net": value.get("net") or _net_of(config or {})}, config)


def _config(path: str) -> dict[str, Any] | None:
    """A run's config, None where it is not there or is damaged: a result says what it needs itself."""
    try:
        config = reading.read_json(path)
    except ValueError:
        return None
    return config if isinstance(config, dict) else None


def _net_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `net` of a result of an older version, from its run's config; None where it does not say."""
    sections = {"model": "norm width stage_sizes", "method": "adversarial_weight terms pgdat_clean_forward"}
    try:
        net = {"model": config["model"]["name"], "method": config["method"]["name"], "attack_norm": "linf"}
        net |= {name: config[section].get(name) for section, names in sections.items() for name in names.split()}
        net |= {name: config[name] for name in ("epochs", "batch_size", "seed")}
        net["epsilon_255"] = config["attack"]["epsilon_255"]
        reading.check(net, reading.NET)
    except (TypeError, KeyError, AttributeError, ValueError):
        return None
    return net


def _nets(evaluations: Iterable[Evaluation]) -> list[Measured]:
    """The nets of results; those of one folder by gamma and seed."""
    groups, results, crops = {}, {}, {}
    for one in sorted(evaluations, key=lambda one: not one.result["dataset"].get("crop")):
        source, mixture = images.source(one.result), one.result.get("mbn") or {}
        identity = (*(mixture.get(name) for name in ("gamma", "interpolation", "p", "seed")),)
        identity += one.result["checkpoint"]["params_sha256"], *images.normalisation(one.result)
        crop = one.result["dataset"].get("crop") or crops.get((source, identity))  # "" where only other sets were there
        crops.setdefault((source, identity), crop)
        groups.setdefault((source, identity, crop), []).append(one)
        results.setdefault(source, []).append(one.result)
    usual = {source: attacked.usual(found) for source, found in results.items()}
    nets = [_measured(source, mine, usual[source]) for (source, *_), mine in groups.items()]
    return sorted(nets, key=lambda net: (net.folder, net.seed, net.interpolation, net.p or 0, net.gamma or 0))


def _measured(source: str, mine: list[Evaluation], usual: Mapping[str, attacked.Settings]) -> Measured:
    first = next((one for one in mine if one.result["net"]), mine[0])
    result, net = first.result, first.result["net"] or {}
    mixture, file = result.get("mbn") or {}, result["checkpoint"].get("file")  # of a net that was trained elsewhere
    known = {"row": "", "method": "", "depth": None, "epsilon_255": None, "attack_norm": "linf"}
    if net:
        found = re.search(r"(26|50)$", net["model"])
        known = {
            "row": "" if file else row_of({"terms": None} | net),
            "method": file or name_of({"terms": None} | net),
            "depth": int(found[1]) if found and net["width"] == 1 and not net["stage_sizes"] else None,
            "epsilon_255": net["epsilon_255"],
            "attack_norm": net["attack_norm"],
        }
    settings = {name: value for name, value in net.items() if name != "seed"} | {"recipe": result.get("recipe")}
    one = Measured(
        evaluations=tuple(mine),
        source=source,
        seed=int(net.get("seed", result.get("seed") or 0)),
        recipe=result.get("recipe") or "",
        gamma=mixture.get("gamma"),
        interpolation=mixture.get("interpolation") or "",
        p=mixture.get("p"),
        settings=tuple((name, str(value)) for name, value in sorted(settings.items())),
        usual=usual,
        **known,
    )
    return one if one.method else dataclasses.replace(one, method=one.folder)


def value(net: Measured, key: str) -> Value | None:
    """A net's number, or None where no result has it: attacked as most nets of the data set are, by the paper's suites,
    of the most images, in this order; what is no attack: of the most images.

    key: "clean", an attack's name, "properties.NAME", "shift.NAME" ("shift.imagenet_c": the mean over all corruptions).
    {epsilon} in it is the radius of the net's training; an attack is at this radius unless its name has its own.
    """

    def rank(one):
        is_suites = one.evaluation.result["name"] in commands.SUITES
        return OTHER_SETTINGS not in one.flags, is_suites and bool(one.settings), one.n, is_suites

    key = key.replace("{epsilon}", f"{net.epsilon_255 or 0:g}")
    found = [entry for one in net.evaluations for entry in _values(net, one, key)]
    return max(found, key=rank, default=None)


def alike(values: Sequence[Value]) -> list[Value]:
    """Those of values under one key that may be averaged: attacked as most nets are, or else as the first is."""
    usual = [one for one in values if OTHER_SETTINGS not in one.flags] or values
    return [one for one in usual if one.settings == usual[0].settings]


def _values(net: Measured, one: Evaluation, key: str) -> Iterable[Value]:
    """What a result has under a key."""
    result = one.result
    wide = _WIDE_FLAGS & set(result["flags"])
    if key.startswith("properties.") and images.are_first_classes(result):
        wide -= {"partial"}  # Table 5 is of them

    def make(entry, accuracy="accuracy", flags=(), settings=()):
        raised = tuple(sorted({*wide, *entry.get("flags", ()), *flags}))
        ci95 = entry.get("ci95")
        return Value(entry[accuracy], tuple(ci95) if ci95 else None, int(entry["n"]), raised, key, one, settings)

    kind, _, name = key.partition(".")
    if key == "clean" and result.get("clean"):
        yield make(result["clean"])
    elif kind == "properties":
        entry = (result.get("properties") or {}).get(name)
        if entry and entry.get("mean") is not None:
            yield make(entry, "mean")
    elif kind == "shift":
        yield from (make(entry) for entry in result.get("shift") or () if entry["name"] == name)
        entry = result.get("corruptions")
        if entry and name == "imagenet_c" and entry["cells"]:
            yield make(entry | {"n": min(cell["n"] for cell in entry["cells"])}, "mean_accuracy")
    for entry in result["attacks"]:
        ball = entry["epsilon_255"], entry.get("norm") or "linf"
        if entry["name"] == key and ("eps_" in key or ball == (net.epsilon_255, net.attack_norm)):
            settings, is_named = attacked.settings(entry), attacked.is_as_named(entry)
            raised = [OTHER_SETTINGS] * (settings != net.usual.get(key, settings)) + ["not_as_named"] * (not is_named)
            yield make(entry, "robust_accuracy", raised, settings)
