"""Every config file: what it says about itself, what it holds, and that it trains."""

import importlib
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from nofrost_jax import attacks, classifier, data, dry_run, keys, models, optim, parallel, train
from nofrost_jax.attacks import threat
from nofrost_jax.config import check_devices, prepare
from nofrost_jax.errors import UserError
from nofrost_jax.fields import differences, get, to_plain
from tests.conftest import ROOT, tiny_config

IMAGENET = sorted(path.stem for path in (ROOT / "configs").glob("*_r[25][06].py"))
FILES = [*IMAGENET, "digits", "cifar10"]
ROWS = ["nofrost", "st", "st_nf", "sat", "pgdat", "mbnat", "sat_in", "trades", "fat", "trades_fat", "fastat", "freeat"]
AUGMENTED = {  # row: its terms, and the views that these need
    "nofrost_star": ("paper", ("clean", "augmented")),
    "combine": ("combine", ("clean", "deepaugment", "tda")),
    "deepaugment": ("deepaugment", ("clean", "deepaugment")),
    "tda": ("tda", ("tda",)),
}
ROWS += AUGMENTED
DISTORTED = ("nofrost_star", "combine", "deepaugment")  # train on DeepAugment's images
TABLE_7 = ("fastat", "freeat")  # on ResNet-50 only, as published
NETS = {  # row: model, norm, method, adversarial weight
    "nofrost": ("nf_resnet{}", None, "at", 0.5),
    "st": ("resnet{}", "bn", "standard", None),
    "st_nf": ("nf_resnet{}", None, "standard", None),
    "sat": ("resnet{}", "bn", "at", 0.5),
    "pgdat": ("resnet{}", "bn", "at", 1.0),
    "mbnat": ("resnet{}", "mbn", "at", 0.5),
    "sat_in": ("resnet{}", "in", "at", 0.5),
    "trades": ("resnet{}", "bn", "trades", None),
    "fat": ("resnet{}", "bn", "fat", 1.0),
    "trades_fat": ("resnet{}", "bn", "trades_fat", None),
    "fastat": ("resnet{}", "bn", "fast", None),
    "freeat": ("resnet{}", "bn", "free", None),
    "nofrost_star": ("nf_resnet{}", None, "augmented", None),
    "combine": ("resnet{}", "bn", "augmented", None),
    "deepaugment": ("resnet{}", "bn", "augmented", None),
    "tda": ("resnet{}", "bn", "augmented", None),
}


def module(name):
    return importlib.import_module(f"configs.{name}")


def test_files_are_complete():
    """Every row at two depths; nothing in the folder that these tests pass over."""
    depths = {row: (50,) if row in TABLE_7 else (26, 50) for row in ROWS}
    assert sorted(IMAGENET) == sorted(f"{row}_r{depth}" for row in ROWS for depth in depths[row])
    others = {"__init__", "common", "methods"}
    assert {path.stem for path in pathlib.Path(ROOT, "configs").glob("*.py")} - set(FILES) == others


@pytest.mark.parametrize("name", FILES)
def test_docstring_tells_the_command(name):
    text = module(name).__doc__
    if name == "cifar10":
        assert "python main.py --config=configs/cifar10.py:sat --workdir=runs/cifar10_sat" in text
        return
    word, more = (":epsilon_255=4", "_eps4") if name.startswith(TABLE_7) else ("", "")
    if name.startswith(DISTORTED):
        word = ":files=DIR"  # the paper's images, so that the documented command is the faithful one
    assert f"python main.py --config=configs/{name}.py{word} --workdir=runs/{name}{more}" in text
    if name != "digits":
        assert any(word in text for word in ("Table ", "Figure ", "No row of the paper"))
        assert ("Those numbers" in text) == bool(re.search(r"clean\s\d", text))
        assert "--config.recipe=authors" in text
        steps = "115,092" if name == "freeat_r50" else "450,360"
        assert f"Cost: {steps} steps of 256 images" in text and f"configs/{name}.py:runlocal" in text


def test_nofrosts_targets_of_tables_4_and_7():
    six, fifty = (" ".join(module(f"nofrost_r{depth}").__doc__.split()) for depth in (26, 50))
    assert "clean 70.15 +- 0.03, PGD 12.19 +- 0.10, APGD-CE 6.34 +- 0.04, APGD-DLR 6.57 +- 0.06, aa_fast_20 5.01" in six
    assert "clean 69.87, PGD-10 48.60, PGD-50 48.23 at eps 2/255" in fifty
    assert "clean 66.05, PGD-10 36.14, PGD-50 36.05 at eps 4/255" in fifty


def test_suites_are_affordable():
    """Standard AutoAttack on a part of the images; all by one word, or a flag of the field that is there."""
    paper, gammas = (importlib.import_module(f"configs.eval.{name}").get_config for name in ("paper", "mbn_gamma"))
    limits = [config.evaluation.attacks.aa_standard.limit for config in (paper(), paper("all"), gammas())]
    assert limits == [5000, 0, 1000]
    assert paper().evaluation.attacks.pgdt_20.to_dict().items() >= {"name": "pgd_targeted", "steps": 20}.items()
    with pytest.raises(ValueError, match="this one takes: all"):
        paper("al")


@pytest.mark.parametrize("name", ["nofrost_r50", "st_r26", "trades_fat_r26", "nofrost_star_r26", "deepaugment_r26"])
def test_cost_in_the_docstring_is_the_dry_runs(name):
    config = prepare(module(name).get_config())
    model = classifier.create_model(config.model)
    variables = models.abstract_variables(model, 224)
    told = float(re.search(r"([\d.]+e\+\d+) floating-point operations a step", module(name).__doc__).group(1))
    report = "\n".join(dry_run.report(config, model, variables, 8, dry_run.data.examine(config)[1]))
    counted = float(re.search(r"FLOPs per step +(\S+)", report).group(1))
    assert told == pytest.approx(counted, rel=0.05)  # XLA's count changes a little with its version
    assert re.search(r"^devices +8 \(32 clean images each\)$", report, re.MULTILINE)


def every(config, field=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from every(value, f"{field}{name}.")
        else:
            yield f"{field}{name}", value


@pytest.mark.parametrize(
    ("name", "arg"),
    [(name, arg) for name in IMAGENET for arg in ("", "runlocal,epsilon_255=4")]
    + [(name, row) for name in ("digits", "cifar10") for row in ROWS]
    + [("fastat_r50", f"official_{phase},epsilon_255=2") for phase in (1, 2, 3)]
    + [("freeat_r50", "official")],
)
def test_values_are_plain_and_survive_json(name, arg):
    config = module(name).get_config(arg)
    for field, value in every(config):
        items = value if isinstance(value, tuple) else (value,)
        assert all(type(item) in (int, float, str, bool, type(None)) for item in items), field
    plain = json.loads(config.to_json())
    assert to_plain(ConfigDict(plain)) == plain
    resolved = prepare(config)  # also: a shipped config is valid
    again = prepare(ConfigDict(json.loads(resolved.to_json())))
    assert to_plain(again) == to_plain(resolved)
    assert None not in dict(every(resolved)).values()


@pytest.mark.parametrize("name", [*IMAGENET, *(f"{file}:{row}" for file in ("digits", "cifar10") for row in ROWS)])
def test_row_has_its_net_and_method(name):
    file, _, arg = name.partition(":")
    row, _, depth = (arg, "", "26") if arg else file.rpartition("_r")
    config = module(file).get_config(arg)
    model, norm, method, weight = NETS[row]
    assert config.model.name == model.format(depth) and config.method.name == method
    assert norm is None or config.model.norm == norm
    assert weight is None or config.method.adversarial_weight == weight
    resolved = prepare(config)
    assert (resolved.method.terms, resolved.data.views) == AUGMENTED.get(row, ("paper", ("clean",)))


@pytest.mark.parametrize("row", ["trades", "fat", "trades_fat"])
def test_rows_of_trades_and_fat_keep_the_papers_budget(row):
    """Ten steps of 1 / 255 at radius 8 / 255, beta 1 and early-stop iteration 1 (paper, Section 4.1)."""
    config = prepare(module(f"{row}_r26").get_config())
    attack = attacks.create(**config.attack)
    assert (attack.epsilon, attack.steps) == (8 / 255, 10)
    assert threat.step_size(attack.step_rule, attack.epsilon, attack.steps) == pytest.approx(1 / 255)
    assert attack.tau == (None if row == "trades" else 1)
    assert (config.method.beta, config.method.trades_forwards, config.method.tau_epochs) == (1.0, 2, ())


@pytest.mark.parametrize(
    ("terms", "sources", "views"),
    [
        ("paper", ("edsr", "cae"), ("clean", "augmented")),
        ("authors", ("edsr",), ("clean", "deepaugment", "tda")),
        ("tda", ("edsr", "cae"), ("tda",)),
    ],
)
def test_views_and_deepaugments_nets_follow_from_the_terms(terms, sources, views):
    """The code of the authors never reaches CAE's images; what is set wins."""
    config = module("nofrost_star_r50").get_config()
    config.method.terms = terms
    prepared = prepare(config)
    assert (prepared.deepaugment.sources, prepared.data.views) == (sources, views)
    config.deepaugment.sources = ("cae",)
    assert prepare(config).deepaugment.sources == ("cae",)


def test_rows_of_table_7_have_their_published_recipe():
    """Wong et al. (2020): 15 epochs in phases, rate 0 to 0.4 to 0.04 to 0.004 to 0.0004. Shafahi et al. (2019)."""
    phases = [prepare(module("fastat_r50").get_config(f"official_{phase},epsilon_255=4")) for phase in (1, 2, 3)]
    assert sum(phase.epochs for phase in phases) == 15 and [phase.batch_size for phase in phases] == [512, 224, 128]
    assert [phase.data.image_size for phase in phases] == [128, 224, 288]
    assert [phase.data.train_resize for phase in phases] == [160, 352, 0]
    assert (phases[2].data.eval_resize, phases[2].data.eval_pad) == (0, True)
    rates = [optim.learning_rate(phase, 100) for phase in phases]
    ends = [(float(rate(0)), float(rate(100 * phase.epochs))) for rate, phase in zip(rates, phases, strict=True)]
    np.testing.assert_allclose(ends, [(0, 0.04), (0.04, 0.004), (0.004, 0.0004)], rtol=1e-5)
    assert float(rates[0](100)) == pytest.approx(0.4)
    for phase in phases:
        for devices in (1, 2, 4, 8):
            check_devices(phase, devices, 1, uses_groups=True)
        assert threat.step_size(phase.attack.step_rule, phase.attack.epsilon_255 / 255, 1) == pytest.approx(5 / 255)
    free = prepare(module("freeat_r50").get_config("official"))
    rate = optim.learning_rate(free, 100)
    assert (free.epochs, free.method.replays) == (23, 4)
    np.testing.assert_allclose([rate(799), rate(800), rate(1600)], [0.1, 0.01, 0.001], rtol=1e-5)
    assert threat.step_size(free.attack.step_rule, 4 / 255, 1) == pytest.approx(4 / 255)


@pytest.mark.parametrize("arg", ["epsilon=4", "epsilon_255", "official_4", "runlocal,,typo"])
def test_unknown_arguments_are_refused(arg):
    with pytest.raises(ValueError, match="unknown argument"):
        module("fastat_r50").get_config(arg)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_rows_on_small_images_take_a_radius_too(name):
    config = prepare(module(name).get_config("sat,epsilon_255=4"))
    assert config.attack.epsilon_255 == config.evaluation.attacks.aa_standard.epsilon_255 == 4
    assert module(name).get_config("").model.name == "nf_resnet26"


def test_the_papers_values():
    """Section 4.1; what follows from the recipe is below."""
    config = prepare(module("nofrost_r50").get_config())
    expected = {
        "model.name": "nf_resnet50",
        "model.num_classes": 1000,
        "model.stem": "imagenet",
        "model.width": 1.0,
        "model.dtype": "float32",
        "epochs": 90,
        "batch_size": 256,
        "optimizer.learning_rate": 0.1,
        "optimizer.learning_rate_batch": 256,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-5,
        "optimizer.schedule": "cosine_epochs",
        "optimizer.warmup_epochs": 0.0,
        "optimizer.agc": 0.0,
        "attack.name": "pgd",
        "attack.epsilon_255": 8.0,
        "attack.steps": 10,
        "method.name": "at",
        "method.adversarial_weight": 0.5,
        "data.source": "tfds:imagenet2012",
        "data.image_size": 224,
        "data.eval_resize": 256,
        "data.augmentation": "random_resized_crop",
        "evaluation.attacks.pgd_20.steps": 20,
        "evaluation.attacks.pgd_20.epsilon_255": 8.0,
        "evaluation.limit": 0,
    }
    assert {field: get(config, field) for field in expected} == expected


BY_RECIPE = {  # field: what the paper, or its silence, says; what the authors' code does
    "label_smoothing": (0.0, 0.1),
    "model.dropout": (0.0, 0.25),
    "model.drop_path": (0.0, 0.1),
    "optimizer.nesterov": (False, True),
    "model.bn_running": ("mean", "first"),
    "method.pgdat_clean_forward": (False, True),
    "method.terms": ("paper", "authors"),
    "checkpoint.select": ("last", "best_ra_val"),
}
OF_NOFROST_STAR = {  # CRT_TDAT.py beside Section 4.1
    "epochs": (90, 30),
    "batch_size": (256, 80),
    "optimizer.learning_rate": (0.1, 0.099609375),
    "optimizer.learning_rate_batch": (256, 0),
    "model.bn_group_size": ("32", "10"),
    "evaluation.every_epochs": (10, 7),
    "deepaugment.mode": ("noise2net", "files"),
}


@pytest.mark.parametrize("row", ["nofrost", "nofrost_star", "combine"])
@pytest.mark.parametrize(("recipe", "column"), [("paper", 0), ("authors", 1)])
def test_recipe_fills_what_is_open(row, recipe, column):
    config = module(f"{row}_r50").get_config()
    config.recipe, config.deepaugment.folders = recipe, ("edsr", "cae")
    resolved = prepare(config)
    expected = BY_RECIPE | (OF_NOFROST_STAR if row != "nofrost" else {})
    if row == "combine":
        expected = expected | {"method.terms": ("combine", "combine")}
    assert {field: get(resolved, field) for field in expected} == {f: v[column] for f, v in expected.items()}
    changed = differences(to_plain(config), to_plain(resolved))
    others = ["data.views", "deepaugment.sources", "evaluation.attacks.pgd_20.epsilon_255"]
    filled = [field for field in expected if (row, field) != ("combine", "method.terms")]
    assert sorted(line.split(":")[0] for line in changed) == sorted([*filled, *others])
    both = ("edsr", "cae") if row == "nofrost" or recipe == "paper" else ("edsr",)
    assert resolved.deepaugment.sources == both and resolved.attack.steps == 10
    for devices in (1, 2, 8):
        check_devices(resolved, devices, 1, uses_groups=True)


@pytest.mark.parametrize("name", FILES)
def test_the_authors_choose_by_clean_accuracy_where_nothing_is_attacked(name):
    config = module(name).get_config()
    config.recipe, config.deepaugment.folders = "authors", ("edsr", "cae")
    resolved = prepare(config)
    by_clean = name.startswith(("st_", "deepaugment", "tda"))
    assert resolved.checkpoint.select == ("best_sa_val" if by_clean else "best_ra_val")
    if name.startswith("sat_r"):
        config.method.adversarial_weight = 0.0
        assert prepare(config).checkpoint.select == "best_sa_val"


def test_the_table_of_the_recipes_is_complete():
    """Each field with both values and the line of the authors' code."""
    table = module("common").__doc__
    for field, values in (BY_RECIPE | OF_NOFROST_STAR).items():
        if field == "optimizer.learning_rate_batch":
            assert "with learning_rate_batch=0" in table
            continue
        shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
        (line,) = re.findall(rf"^\| {re.escape(field)} .*$", table, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:3] == shown and re.search(r":\d|images of a GPU", cells[3]), line


@pytest.mark.parametrize("name", FILES)
def test_files_of_deepaugment_are_one_word(name):
    """It makes the documented command the paper's: images from files, ImageNet beside them."""
    if not name.startswith(DISTORTED):
        with pytest.raises(ValueError, match=r"unknown argument 'files=DIR'.*NUMBER$"):
            module(name).get_config("sat,files=DIR" if name in ("digits", "cifar10") else "files=DIR")
        return
    config = prepare(module(name).get_config("files=DIR"))
    section = config.deepaugment
    assert (section.mode, section.folders, config.data.data_dir) == ("files", ("edsr", "cae"), "DIR")
    assert config.data.source == "folder:imagenet" and config.epochs == 90
    with pytest.raises(ValueError, match=r"this one takes: .*files=DIR$"):
        module(name).get_config("files=")
    with pytest.raises(UserError, match=r"has no folder for edsr.*configs/FILE.py:files=DIR"):
        config = module(name).get_config()
        config.deepaugment.mode = "files"
        prepare(config)


def test_explicit_values_win_over_the_recipe():
    config = module("nofrost_r50").get_config()
    config.recipe, config.label_smoothing, config.model.dropout = "authors", 0.0, 0.5
    config.optimizer.nesterov, config.evaluation.attacks.pgd_20.epsilon_255 = False, 4.0
    resolved = prepare(config)
    assert (resolved.label_smoothing, resolved.model.dropout, resolved.optimizer.nesterov) == (0.0, 0.5, False)
    assert resolved.model.drop_path == 0.1 and resolved.evaluation.attacks.pgd_20.epsilon_255 == 4.0


def one_step(config, folder):
    """Trains one step; asserts that it moved the parameters, and to finite ones."""
    config.epochs, config.batch_size, config.data.fake_train, config.log.every_steps = 1, 16, 16, 1
    config.log.tensorboard = False
    config = prepare(config)
    devices = parallel.Devices()
    with parallel.StopSignal() as stop:
        state = train.fit(config, folder, data.open(config), devices, None, stop)
    model = classifier.create_model(config.model)
    key = keys.named(jax.random.key(config.seed), "init")
    before = jax.tree.leaves(jax.device_get(models.init(model, key, config.data.image_size)))
    after = jax.tree.leaves(jax.device_get(state.variables))
    assert int(state.step) == 1 and all(np.isfinite(leaf).all() for leaf in after)
    moved = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    line = json.loads(pathlib.Path(folder, "metrics.jsonl").read_text())
    assert line["step"] == 1 and sum(moved) > len(moved) / 2
    return line


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("name", [name for name in IMAGENET if "r26" in name or name.startswith(TABLE_7)])
@pytest.mark.slow
def test_runlocal_trains(name, tmp_path):
    """`:runlocal`, and smaller still, so that it compiles in seconds: one block instead of 8 or 16, at any depth."""
    config = module(name).get_config("runlocal")
    config.model.stage_sizes, config.recipe, config.checkpoint.select = (1,), "authors", "last"
    config.attack.steps = min(2, config.attack.steps)
    line = one_step(config, str(tmp_path / "run"))
    adversarial = not name.startswith(("st_", "deepaugment", "tda"))
    assert adversarial == ("train/adversarial_accuracy" in line) and "train/loss" in line
    # Two TRADES steps from the image itself need not fill the ball; friendly images stop, free noise begins at 0.
    low = 0 if name.startswith(("trades", "fat", "free")) else 7.9
    assert not adversarial or low < line["train/perturbation_linf_255"] <= 8.0001
    assert ("train/clean_accuracy" in line) == (not name.startswith(("fat", "fast", "free", "tda")))
    views = ("deepaugment", "tda") if name.startswith("nofrost_star") else AUGMENTED.get(name[:-4], ("", ()))[1]
    assert all(0 <= line[f"train/{view}_accuracy"] <= 1 for view in views)


@pytest.mark.usefixtures("compile_once")
@pytest.mark.parametrize("row", ["nofrost", "mbnat", "nofrost_star"])
def test_row_of_digits_trains(row, tmp_path):
    line = one_step(tiny_config(row, data__source="fake"), str(tmp_path / "run"))
    assert line["train/loss"] > 0
