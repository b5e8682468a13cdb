"""Evaluation sets end to end: fake trees through the real readers, against answers that are known beforehand."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import nofrost_jax
from nofrost_jax import checkpoint, data, train
from nofrost_jax.data import corruptions, preprocess
from nofrost_jax.evaluation import looking
from nofrost_jax.evaluation.corruption_scores import ALEXNET, SEVERITIES
from nofrost_jax.evaluation.label_sets import IMAGENET_A, IMAGENET_R
from nofrost_jax.evaluation.programs import Programs
from nofrost_jax.evaluation.store import Store
from tests.evaluation import shift_trees as trees
from tests.evaluation import suite
from tests.evaluation.test_sweep import make_run

SUITE = ("--mode=evaluate", "--config=configs/eval/shift.py")
COUNTS = {"imagenet_r": 30, "imagenet_sketch": 9, "imagenet_a": 11, "imagenet_v2": 10, "imagenet_c": 4}
OWN_COUNTS = [f"--config.shift.{name}.count={count}" for name, count in COUNTS.items()]
pytestmark = pytest.mark.usefixtures("compile_once")


def wrong_in(corruption, severity):
    """How many of the four images of a cell the net is to get wrong."""
    return (list(ALEXNET).index(corruption) + severity) % 5


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """(data_dir with every set, run, {name or cell: shift_trees.Set})."""
    root = tmp_path_factory.mktemp("imagenet")
    run = trees.make_imagenet_run(root / "run", root)
    numbers = [str(label) for label in range(1000)]
    sets = {
        "clean": trees.make_set(run, root / "imagenet/val", 1, 13, wrong=4),
        "imagenet_r": trees.make_set(run, root / "imagenet-r", 2, 30, wrong=12, allowed=IMAGENET_R),
        "imagenet_a": trees.make_set(run, root / "imagenet-a", 3, 11, wrong=7, allowed=IMAGENET_A),
        "imagenet_sketch": trees.make_set(run, root / "sketch", 4, 9, wrong=3),
        "imagenet_v2": trees.make_set(
            run, root / "imagenetv2-matched-frequency-format-val", 5, 10, wrong=2, names=numbers
        ),
    }
    for position, corruption in enumerate(ALEXNET):
        for severity in SEVERITIES:
            folder = root / "ImageNet-C" / corruption / str(severity)
            wrong = wrong_in(corruption, severity)
            sets[corruption, severity] = trees.make_set(run, folder, 100 + 5 * position + severity, 4, wrong)
    return root, run, sets


@pytest.fixture
def copy(imagenet, tmp_path):
    """(data_dir, run) that a test may change."""
    root = tmp_path / "copy"
    shutil.copytree(imagenet[0], root)
    shutil.rmtree(root / "run/evaluations", ignore_errors=True)
    change_config(root / "run", data_dir=str(root))
    return root, root / "run"


def change_config(run, **fields):
    config = json.loads((run / "config.json").read_text())
    config["data"].update(fields)
    (run / "config.json").write_text(json.dumps(config))


def read(run, name="shift"):
    return json.loads((run / f"evaluations/{name}.json").read_text())


def by_name(result):
    return {entry["name"]: entry for entry in result["shift"]}


def test_every_set(cli, imagenet):
    _, run, sets = imagenet
    done = cli(*SUITE, f"--workdir={run}", *OWN_COUNTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("compiling") == 1 and "skipped" not in done.stdout
    result, found = read(run), by_name(read(run))
    assert list(found) == ["clean", *list(COUNTS)[:4]] and result["missing"] == []
    for name, entry in found.items():
        correct = sets[name].correct
        assert (entry["accuracy"], entry["n"]) == (correct.mean(), len(correct)), name
        assert entry["ci95"][0] < entry["accuracy"] < entry["ci95"][1]
    assert found["imagenet_r"]["label_set"] == "imagenet_r, 200 of 1000 classes"
    assert found["imagenet_a"]["label_set"] == "imagenet_a, 200 of 1000 classes"
    assert found["imagenet_v2"]["label_set"] == "1000 classes"
    assert found["imagenet_sketch"]["flags"] == [] and found["imagenet_r"]["flags"] == ["classes_missing"]
    assert found["clean"]["flags"] == ["partial"] and found["clean"]["expected"] == 50_000
    assert result["clean"]["accuracy"] == 9 / 13 and result["dataset"]["n"] == 13 and result["attacks"] == []

    corrupted = result["corruptions"]
    cells = {(cell["corruption"], cell["severity"]): cell for cell in corrupted["cells"]}
    assert list(cells) == [(name, severity) for name in ALEXNET for severity in SEVERITIES]
    assert all(cells[cell]["accuracy"] == 1 - wrong_in(*cell) / 4 and cells[cell]["n"] == 4 for cell in cells)
    ratios = [sum(wrong_in(name, s) / 4 for s in SEVERITIES) / 5 / ALEXNET[name] for name in ALEXNET]
    assert corrupted["mce"] == pytest.approx(sum(ratios) / 15) and list(corrupted["ratios"]) == list(ALEXNET)
    assert corrupted["mean_accuracy"] == pytest.approx(1 - sum(wrong_in(*cell) for cell in cells) / 300)
    assert corrupted["name"] == "imagenet_c" and corrupted["imagenet_c_crop"] == "standard"
    assert corrupted["flags"] == []

    with np.load(run / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["clean_correct"], sets["clean"].correct)
        np.testing.assert_array_equal(columns["imagenet_r.correct"], sets["imagenet_r"].correct)
        np.testing.assert_array_equal(columns["imagenet_r.label"], sets["imagenet_r"].labels)
        np.testing.assert_array_equal(columns["fog.3.correct"], sets["fog", 3].correct)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["imagenet_r", f"{18 / 30:.2%}"] in [line[:2] for line in lines]
    assert ["imagenet_c,", "mCE", f"{corrupted['mce']:.2%}"] in [line[:3] for line in lines]
    fog = [f"{100 * (1 - wrong_in('fog', severity) / 4):.1f}" for severity in SEVERITIES]
    assert ["fog", *fog] in [line[:6] for line in lines]


def test_the_mask_changes_answers_and_1000way_leaves_it_out(cli, imagenet):
    _, run, sets = imagenet
    asked = "--config.sets=imagenet_r,imagenet_r_1000way,imagenet_a_1000way"
    assert cli(*SUITE, f"--workdir={run}", asked, "--config.evaluation.name=way").returncode == 0
    found = by_name(read(run, "way"))
    for name in ("imagenet_r", "imagenet_a"):
        images, labels, correct = sets[name]
        free = (trees.logits(run, images).argmax(1) == labels).mean()
        assert found[f"{name}_1000way"]["accuracy"] == free < correct.mean()
        assert found[f"{name}_1000way"]["label_set"] == "1000 classes"
    assert found["imagenet_r"]["accuracy"] == sets["imagenet_r"].correct.mean()


def test_what_is_absent_is_skipped_and_listed_but_not_what_was_asked_for(cli, copy):
    root, run = copy
    for gone in ("sketch", "ImageNet-C", "imagenetv2-matched-frequency-format-val"):
        shutil.rmtree(root / gone)
    for named in ("imagenet_r,imagenet_sketch", "imagenet_v2_top", "imagenet_c", f"folder:{root}/nowhere"):
        refused = cli(*SUITE, f"--workdir={run}", f"--config.sets={named}")
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused
        assert "is not there" in refused.stderr and str(root) in refused.stderr
        assert not (run / "evaluations").exists()
    told = cli("--mode=dry_run", *SUITE[1:], f"--workdir={run}")
    assert told.returncode == 0 and told.stdout.count("missing: ") == 3
    done = cli(*SUITE, f"--workdir={run}")
    result = read(run)
    assert done.returncode == 0 and result["corruptions"] is None
    assert list(by_name(result)) == ["clean", "imagenet_r", "imagenet_a"]
    assert [one["name"] for one in result["missing"]] == ["imagenet_sketch", "imagenet_v2", "imagenet_c"]
    for one in result["missing"]:
        assert one["where"].count(str(root)) >= 1 and "http" in one["get"] and one["what"]
        line = f"{one['name']} is not there: {one['what']}; expected {one['where']}; {one['get']}"
        assert f"skipped: {line}" in done.stdout.splitlines()
        assert f"missing: {line}" in told.stdout.splitlines()
    assert "nofrost_jax.data.prepare imagenet_sketch" in result["missing"][0]["get"]


def test_some_cells_and_no_images_of_its_own(cli, copy):
    """Half of ImageNet-C, and no validation images: what is there is evaluated, and nothing else is claimed."""
    root, run = copy
    shutil.rmtree(root / "imagenet")
    for corruption in list(ALEXNET)[2:]:
        shutil.rmtree(root / "ImageNet-C" / corruption)
    shutil.rmtree(root / "ImageNet-C" / "shot_noise" / "5")
    done = cli(*SUITE, f"--workdir={run}", *OWN_COUNTS, "--config.imagenet_c_crop=nofrost")
    assert done.returncode == 0, done.stderr
    result = read(run)
    assert result["clean"] is None and result["worst_case"] is None and result["dataset"]["n"] == 0
    assert [one["name"] for one in result["missing"]] == ["clean", "imagenet_c"]
    assert "66 of 75 cells (shot_noise/5, impulse_noise/1" in result["missing"][1]["what"]
    corrupted = result["corruptions"]
    assert corrupted["name"] == "imagenet_c_nofrost_crop" and corrupted["flags"] == ["partial"]
    assert len(corrupted["cells"]) == 9 and corrupted["mce"] is None and list(corrupted["errors"]) == ["gaussian_noise"]


def test_crop_switch(cli, copy, imagenet):
    """The authors enlarge the images before they cut the middle out; the set's own evaluation leaves them alone."""
    _, run = copy
    geometry = preprocess.Geometry(8, 12)
    asked = [*SUITE, f"--workdir={run}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    change_config(run, eval_resize=12)
    found = {}
    for crop in ("standard", "nofrost"):
        assert cli(*asked, f"--config.imagenet_c_crop={crop}").returncode == 0
        with np.load(run / "evaluations/shift.npz") as columns:
            found[crop] = np.concatenate([columns[f"fog.{severity}.correct"] for severity in SEVERITIES])
        assert read(run)["corruptions"]["crop"] == {"standard": "centre 8", "nofrost": "resize 12, centre 8"}[crop]
    sets = [imagenet[2]["fog", severity] for severity in SEVERITIES]
    images = np.concatenate([one.images for one in sets])
    labels = np.concatenate([one.labels for one in sets])
    enlarged = np.stack([preprocess.eval_image(image, geometry) for image in images])
    for crop, seen in (("standard", images), ("nofrost", enlarged)):
        np.testing.assert_array_equal(found[crop], trees.logits(run, seen).argmax(1) == labels)
    assert (found["standard"] != found["nofrost"]).any()


def test_files_made_here_are_not_called_imagenet_c(cli, copy):
    root, run = copy
    settings = {"seed": 0, "side": 8, "resize": 0, "images": 4, "source_sha256": "x", "textures": "procedural"}
    (root / "ImageNet-C/corruptions.json").write_text(json.dumps(settings))
    asked = [*SUITE, f"--workdir={run}", "--config.sets=imagenet_c", "--config.corruption_names=fog"]
    for crop, name in (("standard", "imagenet_c_otf"), ("nofrost", "imagenet_c_otf_nofrost_crop")):
        done = cli(*asked, f"--config.imagenet_c_crop={crop}")
        assert done.returncode == 0, done.stderr
        assert "note: ImageNet-C has files made by nofrost_jax, not the published ones" in done.stdout
        corrupted = read(run)["corruptions"]
        assert corrupted["name"] == name and f"{name}, accuracy in %" in done.stdout
        assert corrupted["made"] == {"how": "files made by nofrost_jax", "settings": settings}
    (root / "ImageNet-C/corruptions.json").write_text("{")
    refused = cli(*asked)
    assert refused.returncode == 2 and "cannot read how the corruptions were made" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


class Killed(BaseException):
    pass


def test_goes_on_after_a_kill_at_every_save(cli, copy, imagenet, monkeypatch):
    """Killed right after each save, between chunks, sets and cells; no look is done twice, and the end is the same."""
    _, run = copy
    asked = [*SUITE, f"--workdir={run}", "--config.evaluation.chunk_size=8", "--config.severities=(2,)"]
    asked += ["--config.corruption_names=fog,snow", "--config.sets=imagenet_r,imagenet_c"]
    write, saves = Store.save, []

    def save(self, chunk, name, arrays, **options):
        write(self, chunk, name, arrays, **options)
        saves.append((self.folder, chunk, name))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        for _ in range(20):
            try:
                done = cli(*asked)
                break
            except Killed:
                pass
    assert done.returncode == 0 and len(saves) == len(set(saves)) == 2 + 4 + 2  # 13, 30, 4 and 4 images
    found = by_name(read(run))
    assert found["imagenet_r"]["accuracy"] == imagenet[2]["imagenet_r"].correct.mean()
    cells = read(run)["corruptions"]["cells"]
    assert [cell["accuracy"] for cell in cells] == [1 - wrong_in("snow", 2) / 4, 1 - wrong_in("fog", 2) / 4]


def test_sigterm_between_batches(cli, copy, monkeypatch):
    _, run = copy
    asked = [*SUITE, f"--workdir={run}", "--config.sets=imagenet_r"]
    look, looks = Programs.look, []

    def stopped(self, *arguments):
        looks.append(1)
        if len(looks) == 5 + 1 + 2:  # five times the first batch of 13 images, the second, two of four
            os.kill(os.getpid(), signal.SIGTERM)
        return look(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Programs, "look", stopped)
        stop = cli(*asked)
        assert stop.returncode == 75 and "run the same command again" in stop.stderr and len(looks) == 8
        assert not (run / "evaluations/shift.json").exists()
        looks.clear()
        assert cli(*asked).returncode == 0 and len(looks) == 4  # of ImageNet-R only


def test_progress_tells_the_time_left(cli, copy, monkeypatch):
    monkeypatch.setattr(looking, "EVERY_SECONDS", -1)
    done = cli(*SUITE, f"--workdir={copy[1]}", "--config.sets=imagenet_r")
    lines = [line for line in done.stdout.splitlines() if "looks done" in line]
    assert len(lines) == 2 + 4 and "imagenet_r: 43 of 43 looks done" in lines[-1] and lines[-1].endswith("0 s left")
    assert all("images/s" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sets=imagenet_x"], "did you mean imagenet_r"),
        (["sets=ftp:x"], "'ftp:x' is no evaluation set"),
        (["sets=folder:imagenet-r,folder:other/imagenet-r"], "two sets called imagenet_r"),
        (["corruptions=sometimes"], "choose one of files, on_the_fly, none"),
        (["corruption_names=fogg"], "did you mean fog"),
        (["severities=(0,)"], "some of 1, 2, 3, 4, 5"),
        (["imagenet_c_crop=large"], "choose one of standard, nofrost"),
        (["imagenet_c_crop=nofrost", "corruptions=on_the_fly"], "for the published files"),
        (["jpeg_quality=101"], "between 1 and 100"),
        (["corruptions=on_the_fly", "frost_textures=/nowhere"], "/nowhere"),
        (["shift.imagenet_r.label_set=imagenet_q"], "did you mean imagenet_"),
        (["shift.imagenet_r.what="], "must have the fields"),
        (["evaluation.batch_size=0"], "out of range"),
    ],
)
def test_refuses_in_one_line(cli, imagenet, arguments, words):
    refused = cli(*SUITE, f"--workdir={imagenet[1]}", *(f"--config.{argument}" for argument in arguments))
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and words in refused.stderr, refused


def test_refuses_images_of_other_classes(cli, copy):
    root, run = copy
    trees.make_set(run, root / "imagenet-r", 9, 1, wrong=0, allowed=[0])
    refused = cli(*SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "imagenet_r has label 0, which is none of the 200 classes" in refused.stderr


def test_a_damaged_image_is_an_error_and_not_missing(cli, copy):
    root, run = copy
    picture = next((root / "imagenet-a").glob("*/*.png"))
    picture.write_bytes(picture.read_bytes()[:60])
    refused = cli(*SUITE, f"--workdir={run}")
    assert refused.returncode == 2 and str(picture) in refused.stderr
    assert str(picture) in cli("--mode=dry_run", *SUITE[1:], f"--workdir={run}").stdout


# Other data than ImageNet


@pytest.fixture(scope="module")
def digits(tmp_path_factory, variables):
    """A run whose net knows its evaluation images."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    folder.mkdir()
    train.write_config(suite.tiny_config(batch_size=64, limit=0, attacks={}), str(folder))
    checkpoints = checkpoint.Checkpoints(str(folder))
    checkpoints.save(7, {"variables": variables}, {"step": 7})
    checkpoints.close()
    return folder


def test_a_run_on_digits_gets_its_own_images_corrupted(cli, digits, monkeypatch):
    make, used = corruptions._on_devices, set()

    def noted(*arguments):
        used.add(len(arguments[-1].local))
        return make(*arguments)

    monkeypatch.setattr(corruptions, "_on_devices", noted)
    asked = [*SUITE, f"--workdir={digits}", "--config.severities=(2, 5)", "--config.evaluation.limit=70"]
    done = cli(*asked, "--config.corruption_names=contrast,speckle_noise,gaussian_noise")
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stderr
    assert used == {jax.local_device_count()} != {1}
    result = read(digits)
    assert result["missing"] == [] and list(by_name(result)) == ["clean"]
    corrupted = result["corruptions"]
    assert corrupted["name"] == "digits_c_otf" and "digits_c_otf" in done.stdout and "mCE" not in done.stdout
    assert (corrupted["mce"], corrupted["ratios"], corrupted["reference"]) == (None, {}, None)
    assert corrupted["made"]["jpeg_quality"] is None and corrupted["source"] == "digits"
    constants = [(one["name"], one["severity"], one["side"]) for one in corrupted["made"]["constants"]]
    assert constants == [(cell["corruption"], cell["severity"], 8) for cell in corrupted["cells"]]

    config = ConfigDict(checkpoint.read_config(digits))
    (batch,) = data.eval_batches(config, 70, limit=70)
    predict = jax.jit(nofrost_jax.load(digits).predict)
    with np.load(digits / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["clean_correct"], np.asarray(predict(batch["image"])) == batch["label"])
        shares = {}
        for name in ("gaussian_noise", "contrast", "speckle_noise"):
            for severity in (2, 5):
                images = corruptions.corrupt(
                    batch["image"], name, severity, batch["index"], config.seed, jpeg_quality=0
                )
                correct = np.asarray(predict(images)) == batch["label"]
                np.testing.assert_array_equal(columns[f"{name}.{severity}.correct"], correct)
                shares[name, severity] = correct.mean()
    assert len(set(shares.values())) > 2
    counted = [share for (name, _), share in shares.items() if name != "speckle_noise"]
    assert corrupted["mean_accuracy"] == pytest.approx(np.mean(counted))
    assert corrupted["flags"] == ["partial"]

    # Another JPEG quality is another set of images, and the first one's outcomes are still there.
    saved = set((digits / "evaluations/outcomes").rglob("*.npz"))
    assert cli(*asked, "--config.jpeg_quality=20", "--config.corruption_names=contrast").returncode == 0
    assert len(set((digits / "evaluations/outcomes").rglob("*.npz")) - saved) == 2 * 3  # cells, chunks
    assert read(digits)["corruptions"]["made"]["jpeg_quality"] == 20


@pytest.mark.parametrize("named", ["imagenet_r", "imagenet_c"])
def test_imagenets_sets_are_not_for_digits(cli, digits, named):
    refused = cli(*SUITE, f"--workdir={digits}", f"--config.sets={named}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and "the net has 10" in refused.stderr


def test_a_folder_of_ones_own(cli, tmp_path):
    """Classes by the names of the run's own folders, although some are not there; the net answers among the others."""
    names = ["ant", "bee", "cat", "dog"]
    run = make_run(
        tmp_path / "run",
        "nofrost",
        model__num_classes=4,
        data__source=f"folder:{tmp_path}/own",
        evaluation__batch_size=8,
    )
    for split in ("train", "val"):
        trees.write(tmp_path / "own" / split, trees.pictures(1, 8), np.arange(8) % 4, 0, names)
    own = trees.make_set(run, tmp_path / "sketches", 2, 12, wrong=5, allowed=[1, 3], names=names)
    done = cli(*SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert done.returncode == 0, done.stderr
    found = by_name(read(run))
    assert found["clean"]["n"] == 8 and read(run)["corruptions"] is None
    assert found["sketches"]["accuracy"] == own.correct.mean()
    assert found["sketches"]["label_set"] == "present, 2 of 4 classes" and found["sketches"]["flags"] == []
    with np.load(run / "evaluations/shift.npz") as columns:
        np.testing.assert_array_equal(columns["sketches.label"], own.labels)
    (tmp_path / "own").rename(tmp_path / "away")  # then nothing says that bee and dog are the classes 1 and 3
    refused = cli(*SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "sketches has 2 of 4 classes, by names (bee, ...)" in refused.stderr
    (tmp_path / "away").rename(tmp_path / "own")
    (tmp_path / "sketches/bee").rename(tmp_path / "sketches/wasp")
    refused = cli(*SUITE, f"--workdir={run}", f"--config.sets=folder:{tmp_path}/sketches")
    assert refused.returncode == 2 and "wasp is none of the 4 classes" in refused.stderr
