"""One row of a study on CIFAR-10: a ResNet-26 of half the width, trained for three minutes and attacked by AutoAttack.

    python -m benchmarks.tasks.study --row=sat --seed=0 --data=cifar10_jpeg.tar.gz --output=FILE

The small stem, the paper's optimizer at batch 256, radius 8/255, and as many epochs as fit three minutes on this
device: measured once, with the row's first seed, then fixed in the result files. Trained and evaluated by the package
like any run; clean accuracy on all test images, PGD-20, aa_fast_20 and aa_standard on 1,000 of them, evenly spread.

A row that runs out of time packs its work directory into FILE's name with .run0, .run1, ..., small enough to transfer,
and continues from there. It also does so after each new checkpoint, because nothing can interrupt a compilation. The
images are JPEG copies of quality 75, so accuracies are not comparable with published ones.
"""

import io
import os
import pathlib
import tarfile
import tempfile
import time

import numpy as np

from benchmarks.tasks import common
from benchmarks.tasks.resume import saved

MINUTES = 3
RESERVE = 25  # seconds to stop in, and to pack
COMPILING = 60  # the same once something is saved: an evaluation's compilations cannot be interrupted
PART = 15 * 2**20  # bytes
SAFE = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11 has it from 3.11.4
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main() -> None:
    task = common.start("study", __doc__, [("--row", "sat"), ("--seed", 0)])
    output = pathlib.Path(task.options.output)
    with tempfile.TemporaryDirectory() as folder:
        place_data(task.options.data, folder, task.rehearse)
        unpack(output, folder)
        os.chdir(folder)  # paths in the config are relative, so that it is the same wherever a row continues
        if "epochs" not in task.figures:
            task.record("epochs", epochs_of_seed_0(task) or fitting(task))
        run_row(task, output)


def make_config(row, seed, epochs, rehearse):
    """The config of a row."""
    from configs import cifar10
    from configs.common import get_config as paper

    config = cifar10.get_config("pgdat" if row == "pgdat_nf" else row)
    if row == "pgdat_nf":  # on the normalizer-free net; no row of configs/methods.py
        config.model.name = f"nf_{config.model.name}"
    config.optimizer = paper().optimizer
    config.seed, config.batch_size, config.epochs = seed, 256, epochs
    config.data.source = "folder:cifar10"
    config.log.tensorboard = False
    config.checkpoint.update({"every_steps": 10**9, "keep": 1})  # the last one, and where it is stopped
    config.evaluation.every_epochs = 0
    del config.evaluation.attacks["apgd_ce_20"]
    for entry in config.evaluation.attacks.values():
        entry.limit = 1000
    if rehearse:
        config.model.update({"width": 0.0625, "stage_sizes": (1,)})
        config.batch_size, config.attack.steps, config.data.image_size = 16, 1, 8
        del config.evaluation.attacks["aa_standard"]
        config.evaluation.batch_size, config.evaluation.attacks.pgd_20.steps = 20, 2
    return config


def config_of(task, epochs):
    return make_config(task.options.row, task.options.seed, epochs, task.rehearse)


def fitting(task):
    """How many epochs fit the minutes; also recorded: the seconds of a step, and of reading and decoding a batch."""
    import jax

    from benchmarks.train_step import compiled_step
    from nofrost_jax import data, parallel
    from nofrost_jax.config import prepare

    dataset = data.open(prepare(config_of(task, epochs=100)))
    config, batches = dataset.config, dataset.train_batches(0)
    step = compiled_step(config, next(batches), parallel.Devices((jax.devices()[0],)))
    begin = time.perf_counter()
    for _ in range(20):
        next(batches)
    speed = {"seconds of a batch's input": (time.perf_counter() - begin) / 20}
    batches.close()
    common.timed(step, 3)
    speed["seconds of a step"] = float(np.median(common.timed(step, 20)))
    task.record("speed", speed)
    epoch = max(speed.values()) * dataset.steps_per_epoch
    return min(max(int(60 * MINUTES / epoch), 1), 2 if task.rehearse else 10_000)


def epochs_of_seed_0(task):
    """What the row's first seed had on this kind of device; None where it is not known."""
    output = pathlib.Path(task.options.output)
    name = f"study_{task.options.row}_seed0.json"
    for path in (output.with_name(name), common.RESULTS / output.parent.name / name):
        figures = (common.read_json(path) or {}).get("figures", {})
        if "epochs" in figures:
            return figures["epochs"]
    return None


def run_row(task, output):
    """Trains and evaluates; what is not finished in time is packed."""
    from nofrost_jax import errors, parallel, train

    config, begin = config_of(task, task.figures["epochs"]), time.perf_counter()
    hears, heard = parallel.StopSignal, parallel.StopSignal.requested
    packed = saved("run")

    def requested(stop):
        """Also stops when there is too little time; packs a new checkpoint, because it may be killed later."""
        nonlocal packed
        if saved("run") != packed:
            pack(output)
            packed = saved("run")
        return task.left() < (COMPILING if packed else RESERVE) or heard(stop)

    hears.requested = requested
    try:
        train.train(config, "run")
    except errors.Preempted as notice:
        pack(output)
        task.record("stopped", str(notice))
        return
    except errors.UserError as error:
        if "not finite" not in str(error):
            raise
        task.finish(str(error).partition(";")[0])
        return
    finally:
        task.record("seconds", task.figures.get("seconds", 0) + time.perf_counter() - begin)
    found = common.read_json("run/evaluations/final.json")
    for name in ("clean", "attacks", "flags"):
        task.record(name, found[name])
    for part in parts(output):
        part.unlink()
    task.figures.pop("stopped", None)
    shown = [f"{entry['name']} {entry['robust_accuracy']:.1%}" for entry in found["attacks"]]
    task.finish(f"{task.figures['epochs']} epochs: clean {found['clean']['accuracy']:.1%}, {', '.join(shown)}")


def place_data(given, folder, rehearse):
    """Puts the data at `folder`/cifar10, with train/ and test/ in it; a rehearsal makes some of its own."""
    place, given = pathlib.Path(folder, "cifar10"), pathlib.Path(given)
    if rehearse:
        fake_images(place)
    elif given.is_dir():
        place.symlink_to(given.resolve())
    else:
        place.symlink_to(next(path.parent for path in sorted(unpacked(given).glob("**/train"))))


def unpacked(archive):
    """A folder with what is in the archive; it stays, for the rows that follow."""
    folder = pathlib.Path(tempfile.gettempdir(), f"nofrost_jax_{archive.name}_{archive.stat().st_size}")
    if not folder.exists():
        unfinished = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
        with tarfile.open(archive) as content:
            content.extractall(unfinished, **SAFE)
        unfinished.rename(folder)
    return folder


def fake_images(place):
    """Noise, in the layout of the real ones."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in CLASSES:
            (place / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                image.save(place / split / name / f"{number:04d}.jpg")


def parts(output):
    """The files that hold a packed work directory, in order."""
    return sorted(output.parent.glob(f"{output.stem}.run*"), key=lambda path: int(path.suffix[4:]))


def pack(output):
    """Writes the work directory `run` next to the result file, in parts."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add("run", filter=lambda entry: None if entry.name.endswith("lock") else entry)
    content, old = stream.getvalue(), parts(output)
    for part in old:
        part.unlink()
    for number, first in enumerate(range(0, len(content), PART)):
        path = output.parent / f"{output.stem}.run{number}"
        path.with_suffix(".tmp").write_bytes(content[first : first + PART])
        path.with_suffix(".tmp").replace(path)


def unpack(output, folder):
    """Puts a packed work directory back, if there is one."""
    content = b"".join(part.read_bytes() for part in parts(output))
    if content:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, **SAFE)


if __name__ == "__main__":
    main()
