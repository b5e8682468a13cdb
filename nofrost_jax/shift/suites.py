"""Which evaluation sets were asked for: a config like configs/eval/shift.py on a run, read and checked. No data is
read, except for the names of the run's own classes."""

import dataclasses
import os
import re
from typing import Any

from ml_collections import ConfigDict

from nofrost_jax import data, errors
from nofrost_jax.corruptions.constants import SEVERITIES
from nofrost_jax.errors import UserError
from nofrost_jax.fields import get, require_choice, to_plain
from nofrost_jax.shift import label_sets
from nofrost_jax.shift.scores import ALEXNET

#: Fields of a suite's config that say which sets; everything else in it says how to evaluate.
FIELDS = (
    *("sets", "corruptions", "corruption_names", "severities"),
    *("imagenet_c_crop", "jpeg_quality", "frost_textures", "shift"),
)
CLEAN, IMAGENET_C = "clean", "imagenet_c"
FILES, ON_THE_FLY, NONE = "files", "on_the_fly", "none"
# Resize of ImageNet-C's images, which have the net's size already: 0 = none, None = the run's own; the result's name.
CROPS = {"standard": 0, "nofrost": None}
CROP_NAMES = {"standard": IMAGENET_C, "nofrost": f"{IMAGENET_C}_nofrost_crop"}
JPEG_QUALITY = 85  # of the published ImageNet-C


@dataclasses.dataclass(frozen=True)
class Entry:
    """An evaluation set; the fields are those of `benchmark` in configs/eval/shift.py."""

    name: str
    what: str
    folder: str = ""
    builder: str = ""
    split: str = "test"
    count: int = 0
    get: str = ""
    label_set: str = label_sets.ALL
    default: bool = True
    eval_resize: int | None = None


@dataclasses.dataclass(frozen=True)
class Suite:
    """What was asked for.

    entries: the sets other than the run's own images. corruptions: one of FILES, ON_THE_FLY, NONE; cells: (corruption,
    severity) in the order of mCE; imagenet_c: the entry of the files. named: names of what must be there. corrupted:
    the corruptions' name in the result; corrupted_own: that of files that are not the published ones but made here.
    own: the run's own images, or None where they are not there, or cannot be opened because of `problem`. is_imagenet:
    whether their classes are ImageNet's.
    """

    entries: tuple[Entry, ...]
    corruptions: str
    cells: tuple[tuple[str, int], ...]
    imagenet_c: Entry
    crop: str
    jpeg_quality: int
    textures: str
    named: frozenset[str]
    corrupted: str
    corrupted_own: str
    own: data.Dataset | None
    problem: UserError | None
    is_imagenet: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the run's own classes; empty where they are not known."""
        return self.own.class_names if self.own else ()


def is_suite(config: ConfigDict | None) -> bool:
    """Whether a config asks for evaluation sets."""
    return config is not None and "shift" in config


def section_of(config: ConfigDict) -> tuple[ConfigDict, dict[str, Any]]:
    """(the config without FIELDS, those as plain values). Raises UserError where one is lacking."""
    rest, plain = config.copy_and_resolve_references(), to_plain(config)
    with rest.unlocked():
        for field in FIELDS:
            get(rest, field)
            del rest[field]
    return rest, {field: plain[field] for field in FIELDS}


def asked_for(config: ConfigDict) -> dict[str, Any]:
    """What a suite's result is of, plain values: results that differ here are different results. config: the run's,
    with the section as its `shift`. Texts for people are left out, and where the data is."""
    plain = to_plain(config)
    section, evaluation = plain["shift"], plain["evaluation"]
    entries = {
        name: {field: value for field, value in fields.items() if field not in ("what", "get")}
        for name, fields in section["shift"].items()
    }
    mixture = ("mbn_gamma", "mbn_interpolation", "mbn_p", "mbn_seed") if config.model.norm == "mbn" else ()
    return section | {
        "shift": entries,
        "evaluation": {name: evaluation[name] for name in ("limit", "ids", "classes", *mixture)},
        "data": {name: plain["data"][name] for name in ("source", "eval_split")},
    }


def read(section: dict[str, Any], run: ConfigDict) -> Suite:
    """The Suite of a section on a run's resolved config. Raises UserError for values that make none."""
    entries = {name: _entry(name, fields) for name, fields in section["shift"].items()}
    if IMAGENET_C not in entries:
        raise UserError(f"config.shift.{IMAGENET_C} is missing; add it as in configs/eval/shift.py")
    own, problem = _open_own(run)
    imagenet, named = _has_imagenet_classes(run, own), _words(section["sets"])
    chosen = named or [name for name, entry in entries.items() if imagenet and entry.default]
    found = [_find(name, entries) for name in dict.fromkeys(chosen) if name not in (CLEAN, IMAGENET_C)]
    mode = _mode(section["corruptions"], named, imagenet)
    _check_crop(section["imagenet_c_crop"], mode)
    titles = [entry.name for entry in found]
    for title in titles:
        if titles.count(title) > 1 or title in (CLEAN, IMAGENET_C):
            raise UserError(f"config.sets={section['sets']!r} has two sets called {title}; rename one folder")
    must = {*titles, *({CLEAN} & {*named})} if named else set()
    must |= {CLEAN} if mode == ON_THE_FLY else set()
    must |= {IMAGENET_C} if mode == FILES and (section["corruptions"] or named) else set()
    otf, filed = f"{_title(run, imagenet)}_c_otf", CROP_NAMES[section["imagenet_c_crop"]]
    return Suite(
        entries=tuple(found),
        corruptions=mode,
        cells=_cells(section["corruption_names"], section["severities"]),
        imagenet_c=entries[IMAGENET_C],
        crop=section["imagenet_c_crop"],
        jpeg_quality=_jpeg_quality(section["jpeg_quality"], imagenet),
        textures=section["frost_textures"],
        named=frozenset(must),
        corrupted=filed if mode == FILES else otf,
        corrupted_own=filed.replace(IMAGENET_C, otf),
        own=own,
        problem=problem,
        is_imagenet=imagenet,
    )


def _open_own(run: ConfigDict) -> tuple[data.Dataset | None, UserError | None]:
    """The run's own images, or None and, where they are there, why they cannot be opened."""
    if not data.is_present(run.data.source, run.data.data_dir):
        return None, None
    try:
        with errors.about(CLEAN):
            return data.open(run, check=()), None
    except UserError as error:
        return None, error


def imagenet_run(config: ConfigDict) -> ConfigDict:
    """The config of a run on ImageNet at 224 pixels, only as far as its data goes, for a suite's config without a run.
    `DIR/imagenet` is taken where it is there, otherwise the tfds data set."""
    given = {name: value for name, value in to_plain(config)["data"].items() if value is not None}
    plain: dict[str, Any] = {"source": "folder:imagenet", "data_dir": "", "train_split": "train"}
    plain |= {"eval_split": "validation", "eval_resize": 256, "image_size": 224, "crop_scale": (1.0, 1.0)}
    plain |= {"holdout": 0, "workers": 0, "shuffle_buffer": 1, "eval_pad": False, "train_resize": 0}
    plain |= {"augmentation": "none", "decode": "exact", "on_error": "raise", "other_files": "raise"}
    more = {"model": {"num_classes": 1000}, "evaluation": {"limit": 0, "ids": "", "classes": 0}}
    run = ConfigDict({"seed": 0, **more, "data": plain | given})
    if "source" not in given and not data.is_present(run.data.source, run.data.data_dir):
        run.data.source = "tfds:imagenet2012"
    return run


def _has_imagenet_classes(run: ConfigDict, own: data.Dataset | None) -> bool:
    """Whether a run's classes are ImageNet's: 1,000, from the tfds data set, or from folders called by WordNet ids (or
    folders that are not there)."""
    kind, _, name = run.data.source.partition(":")
    if run.model.num_classes != 1000 or kind not in ("tfds", "folder"):
        return False
    if kind == "tfds":
        return name.startswith("imagenet2012")
    return own is None or all(re.fullmatch(r"n\d{8}", name) for name in own.class_names)


def _mode(mode: str, named: list[str], imagenet: bool) -> str:
    """FILES, ON_THE_FLY or NONE; "" means what suits the run."""
    require_choice("corruptions", mode or NONE, (FILES, ON_THE_FLY, NONE))
    if mode:
        return mode
    if named:
        return FILES if IMAGENET_C in named else NONE
    return FILES if imagenet else ON_THE_FLY


def _check_crop(crop: str, mode: str) -> None:
    require_choice("imagenet_c_crop", crop, CROPS)
    if crop != "standard" and mode != FILES:
        raise UserError(
            f"config.imagenet_c_crop={crop} is for the published files, and config.corruptions is {mode}; set it to "
            "standard"
        )


def _jpeg_quality(quality: int | None, imagenet: bool) -> int:
    quality = (JPEG_QUALITY if imagenet else 0) if quality is None else quality
    if not 0 <= quality <= 100:
        raise UserError(f"config.jpeg_quality={quality} must be between 1 and 100, or 0 for none")
    return quality


def _entry(name: str, fields: Any) -> Entry:
    known = {field.name for field in dataclasses.fields(Entry)} - {"name"}
    if not isinstance(fields, dict) or (set(fields) - known) or not fields.get("what"):
        raise UserError(
            f"config.shift.{name} must have the fields of an evaluation set, {', '.join(sorted(known))}, and no others"
        )
    require_choice(f"shift.{name}.label_set", fields.get("label_set", label_sets.ALL), label_sets.NAMES)
    if name == CLEAN or not name.isidentifier():
        raise UserError(f"config.shift.{name} is not a valid name; use a plain word other than {CLEAN}")
    return Entry(name, **fields)


def _find(name: str, entries: dict[str, Entry]) -> Entry:
    """The entry of a name, or a new one for folder:PATH and tfds:NAME."""
    kind, colon, place = name.partition(":")
    if not colon:
        require_choice("sets", name, [CLEAN, *entries])
        return entries[name]
    if not data.is_known(name):
        raise UserError(f"config.sets: {name!r} is not an evaluation set; give folder:PATH, tfds:NAME, or a set's name")
    if kind == "tfds":
        return Entry(_plain(place), f"the tfds data set {place}", builder=place)
    title = _plain(os.path.basename(os.path.normpath(place)))
    return Entry(title, f"a folder of class folders, {place}", folder=place, label_set=label_sets.PRESENT)


def _cells(names: str, severities: list[int]) -> tuple[tuple[str, int], ...]:
    """The (corruption, severity) pairs, in the order of mCE."""
    order = list(ALEXNET)
    names = _words(names) or order
    for name in names:
        require_choice("corruption_names", name, order)
    if not severities or any(one not in SEVERITIES for one in severities):
        raise UserError(f"config.severities={tuple(severities)} must be some of 1, 2, 3, 4, 5")
    return tuple((name, severity) for name in sorted({*names}, key=order.index) for severity in sorted({*severities}))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _title(run: ConfigDict, imagenet: bool) -> str:
    """A source's name in that of its corruptions: digits, cifar10, the folder's."""
    kind, _, name = run.data.source.partition(":")
    if imagenet:
        return "imagenet"
    return _plain(os.path.basename(os.path.normpath(name)) if kind == "folder" else name or kind)


def _plain(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
