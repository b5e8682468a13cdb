"""What a suite of out-of-distribution sets consists of: from configs/eval/shift.py and a run to jobs, and to what is
missing. Reads folders' names; computes nothing."""

import dataclasses
import os
import re

import numpy as np

from nofrost_jax import data, rules, validate
from nofrost_jax.errors import UserError
from nofrost_jax.evaluation import corruption_scores, label_sets
from nofrost_jax.evaluation.looking import Corruption, View

#: Fields of a suite's config that say which sets; everything else says how to evaluate.
FIELDS = (
    *("sets", "corruptions", "corruption_names", "severities"),
    *("imagenet_c_crop", "jpeg_quality", "frost_textures", "shift"),
)
CLEAN, IMAGENET_C = "clean", "imagenet_c"
FILES, ON_THE_FLY, NONE = "files", "on_the_fly", "none"
# Resize of ImageNet-C's images, which have the net's size already: 0 = none, None = the run's own; the result's name.
CROPS = {"standard": 0, "nofrost": None}
CROP_NAMES = {"standard": IMAGENET_C, "nofrost": f"{IMAGENET_C}_nofrost_crop"}
IMAGENET_VAL = 50_000
JPEG_QUALITY = 85  # of the published ImageNet-C


@dataclasses.dataclass(frozen=True)
class Entry:
    """An evaluation set, as configs/eval/shift.py has them."""

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
    """What was asked for. entries: the sets beside the run's own; named: whether by name; corruptions: one of FILES,
    ON_THE_FLY, NONE; cells: (corruption, severity) in order."""

    entries: tuple
    named: bool
    corruptions: str
    corruptions_named: bool
    cells: tuple
    imagenet_c: Entry
    crop: str
    jpeg_quality: int
    textures: str


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Looks at one set. views[0] is the set as it is, or a cell of ImageNet-C's files; the others are corruptions of
    its images. cell: (corruption, severity) of ImageNet-C's files, or None."""

    entry: Entry
    config: object
    spec: data.Spec
    views: list
    cell: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Missing:
    """Data that is not there."""

    name: str
    what: str
    where: str
    get: str

    @property
    def line(self):
        return f"{self.name} is not there: {self.what}; expected {self.where}; {self.get or 'put it there'}"


def is_suite(config):
    """Whether a config (or None) asks for these sets."""
    return config is not None and "shift" in config


def section_of(config):
    """(the config without FIELDS, those as plain values)."""
    rest, plain = config.copy_and_resolve_references(), validate.to_plain(config)
    with rest.unlocked():
        for field in FIELDS:
            rules.get(rest, field)
            del rest[field]
    return rest, {field: plain[field] for field in FIELDS}


def read(section, run):
    """The Suite of a section on a run's config. Raises UserError for values that make none."""
    entries = {name: _entry(name, fields) for name, fields in section["shift"].items()}
    imagenet = has_imagenet_classes(run)
    named = _words(section["sets"])
    chosen = named or [name for name, entry in entries.items() if imagenet and entry.default]
    if IMAGENET_C not in entries:
        raise UserError(f"config.shift.{IMAGENET_C} is missing; add it as in configs/eval/shift.py")
    mode = section["corruptions"]
    rules.require_choice("corruptions", mode or NONE, (FILES, ON_THE_FLY, NONE))
    by_name = bool(mode) or IMAGENET_C in named
    if not mode and named:
        mode = FILES if IMAGENET_C in named else NONE
    mode = mode or (FILES if imagenet else ON_THE_FLY)
    if mode == FILES and run.model.num_classes != 1000:
        raise UserError(
            f"ImageNet-C has ImageNet's 1,000 classes, and the net has {run.model.num_classes}; config.sets, "
            "config.corruptions; set config.corruptions=on_the_fly for corruptions of the run's own images"
        )
    rules.require_choice("imagenet_c_crop", section["imagenet_c_crop"], CROPS)
    if section["imagenet_c_crop"] != "standard" and mode == ON_THE_FLY:
        raise UserError(
            "config.imagenet_c_crop=nofrost is for the published files, and config.corruptions=on_the_fly makes images "
            "of the net's size; set it to standard"
        )
    quality = section["jpeg_quality"]
    quality = (JPEG_QUALITY if imagenet else 0) if quality is None else quality
    if not 0 <= quality <= 100:
        raise UserError(f"config.jpeg_quality={quality} must be between 1 and 100, or 0 for none")
    return Suite(
        entries=tuple(_find(name, entries) for name in chosen if name not in (CLEAN, IMAGENET_C)),
        named=bool(named),
        corruptions=mode,
        corruptions_named=by_name and mode == FILES,
        cells=_cells(section),
        imagenet_c=entries[IMAGENET_C],
        crop=section["imagenet_c_crop"],
        jpeg_quality=quality,
        textures=section["frost_textures"],
    )


def has_imagenet_classes(config):
    """Whether a run's classes are ImageNet's: 1,000, from the tfds data set or from folders called by WordNet ids (or
    folders that are not there to look at)."""
    kind, _, name = config.data.source.partition(":")
    if config.model.num_classes != 1000 or kind not in ("tfds", "folder"):
        return False
    if kind == "tfds":
        return name.startswith("imagenet2012")
    return not data.is_present(config) or all(re.fullmatch(r"n\d{8}", name) for name in data.class_names(config))


def jobs(suite, run, num_classes):
    """(jobs, missing) of a Suite on a run's config: the run's own images first, then the sets, then ImageNet-C.

    Raises UserError where data is broken, or missing and was asked for by name.
    """
    found, missing = [], []
    own = Entry(CLEAN, "the run's evaluation images", count=IMAGENET_VAL if has_imagenet_classes(run) else 0)
    if data.is_present(run):
        made = [_otf_view(run, suite, cell) for cell in suite.cells if suite.corruptions == ON_THE_FLY]
        clean = View(CLEAN, np.ones(num_classes, bool), probe=True)
        views = [clean, *(View(f"{name} {severity}", clean.allowed, made_by) for name, severity, made_by in made)]
        found.append(Job(own, run, data.check(run, ("evaluation",)), views))
    else:
        missing.append(Missing(CLEAN, own.what, _where_own(run), "see config.data"))
    for entry in suite.entries:
        label_sets.mask(entry.label_set, num_classes, [0])  # refuses what does not fit, there or not
        config = _locate(entry, run)
        if config is None:
            missing.append(_lacking(entry, run))
        else:
            found.append(_set_job(entry, config, num_classes))
    if suite.corruptions == FILES:
        cells, lacking = _cell_jobs(suite, run, num_classes)
        found, missing = found + cells, missing + lacking
    _refuse_named(suite, missing)
    if not found:
        raise UserError(f"none of the {len(missing)} sets is there to evaluate; {missing[0].line}")
    return found, missing


def _refuse_named(suite, missing):
    """Raises UserError for the first that is missing and was asked for by name."""
    named = {entry.name for entry in suite.entries if suite.named}
    named |= {IMAGENET_C} if suite.corruptions_named else set()
    named |= {CLEAN} if suite.corruptions == ON_THE_FLY else set()
    for one in missing:
        if one.name in named:
            raise UserError(one.line)


def _entry(name, fields):
    known = {field.name for field in dataclasses.fields(Entry)} - {"name"}
    if not isinstance(fields, dict) or (set(fields) - known) or not fields.get("what"):
        raise UserError(
            f"config.shift.{name} must have the fields of an evaluation set, {', '.join(sorted(known))}, and no others"
        )
    rules.require_choice(f"shift.{name}.label_set", fields.get("label_set", label_sets.ALL), label_sets.NAMES)
    if name == CLEAN or not name.isidentifier():
        raise UserError(f"config.shift.{name} cannot be called so; use a plain word other than {CLEAN}")
    return Entry(name, **fields)


def _find(name, entries):
    """The entry of a name, or a new one for folder:PATH and tfds:NAME."""
    kind, colon, place = name.partition(":")
    if not colon:
        rules.require_choice("sets", name, [CLEAN, *entries])
        return entries[name]
    if kind not in ("folder", "tfds") or not place:
        raise UserError(f"config.sets: {name!r} is no evaluation set; give folder:PATH or tfds:NAME, or a name")
    title = re.sub(r"\W+", "_", os.path.basename(os.path.normpath(place)) if kind == "folder" else place).strip("_")
    if kind == "tfds":
        return Entry(title, name, builder=place)
    return Entry(title, name, folder=place, label_set=label_sets.PRESENT)


def _cells(section):
    """The (corruption, severity) pairs, in the order of mCE."""
    order = [*corruption_scores.ALEXNET, *corruption_scores.EXTRA]
    names = _words(section["corruption_names"]) or list(corruption_scores.ALEXNET)
    for name in names:
        rules.require_choice("corruption_names", name, order)
    severities = section["severities"]
    if not severities or any(one not in corruption_scores.SEVERITIES for one in severities):
        raise UserError(f"config.severities={tuple(severities)} must be some of 1, 2, 3, 4, 5")
    return tuple((name, severity) for name in sorted(set(names), key=order.index) for severity in sorted({*severities}))


def _words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _otf_view(run, suite, cell):
    return *cell, Corruption(*cell, run.seed, suite.jpeg_quality, suite.textures)


def _locate(entry, run):
    """The run's config with the set as its evaluation split: the folder, or else the tfds data set; None if neither
    is there."""
    places = [(f"folder:{entry.folder}", ".")] * bool(entry.folder)
    places += [(f"tfds:{entry.builder}", entry.split)] * bool(entry.builder)
    for source, split in places:
        config = _with_data(run, source, split, entry.eval_resize)
        if data.is_present(config):
            return config
    return None


def _with_data(run, source, split, eval_resize):
    config = run.copy_and_resolve_references()
    with config.unlocked():
        config.data.update({"source": source, "eval_split": split, "holdout": 0})
        if eval_resize is not None:
            config.data.eval_resize = eval_resize
        config.data.class_names = ()
        if source.startswith("folder:") and data.is_present(run):
            config.data.class_names = data.class_names(run)
    return config


def _set_job(entry, config, num_classes):
    spec = data.check(config, ("evaluation",))
    labels = data.eval_labels(config)
    if entry.label_set == label_sets.PRESENT and labels is None:
        raise UserError(
            f"label_set=present needs a folder, whose classes are seen at once; {entry.name}; set it to all"
        )
    return Job(entry, config, spec, [View(entry.name, label_sets.mask(entry.label_set, num_classes, labels))])


def _cell_jobs(suite, run, num_classes):
    """The jobs of the cells of ImageNet-C that are there, and what is missing of it, in one piece."""
    entry, made, lacking, spec = suite.imagenet_c, [], [], None
    everything = np.ones(num_classes, bool)
    for name, severity in suite.cells:
        source = f"folder:{entry.folder}/{name}/{severity}"
        config = _with_data(run, source, ".", CROPS[suite.crop])
        if not data.is_present(config):
            lacking.append(f"{name}/{severity}")
            continue
        spec = spec or data.check(config, ("evaluation",))  # of the first; listing all 75 takes a while
        made.append(Job(entry, config, spec, [View(f"{IMAGENET_C} {name} {severity}", everything)], (name, severity)))
    if not lacking:
        return made, []
    missing = _lacking(entry, run)
    if made:
        shown = ", ".join(lacking[:3]) + ", ..." * (len(lacking) > 3)
        what = f"{len(lacking)} of {len(suite.cells)} cells ({shown}) of {entry.what}"
        missing = dataclasses.replace(missing, what=what)
    return made, [missing]


def _lacking(entry, run):
    root = os.path.expanduser(run.data.data_dir)
    places = [f"the folder {os.path.join(root, entry.folder)}"] * bool(entry.folder)
    if entry.builder:
        places.append(f"tfds:{entry.builder} prepared in {run.data.data_dir or 'its default folder'}")
    return Missing(entry.name, entry.what, " or ".join(places), entry.get and f"get it from {entry.get}")


def _where_own(run):
    return f"{run.data.source}, config.data.data_dir={run.data.data_dir!r}"


def corruption_name(suite, run):
    """What the corruptions are called in a result: imagenet_c for the files, imagenet_c_otf or e.g. digits_c_otf."""
    if suite.corruptions == FILES:
        return CROP_NAMES[suite.crop]
    kind, _, name = run.data.source.partition(":")
    if has_imagenet_classes(run):
        name = "imagenet"
    elif kind == "folder":
        name = os.path.basename(os.path.normpath(name))
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', name or kind).strip('_')}_c_otf"
