"""The offline generator: the same files whatever the shards and the stops, and exit codes."""

import io
import itertools
import os
import signal

import numpy as np
import pytest
from PIL import Image

from nofrost_jax import lock
from nofrost_jax.tools.deepaugment import __main__ as program
from nofrost_jax.tools.deepaugment import generate
from tests.data.helpers import encoded, picture, write

COUNT = 9
SETTINGS = "--weights=random:0", "--side=16", "--seed=5"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Nine images of one size in two classes; a few names as real folders have them."""
    root = tmp_path_factory.mktemp("source")
    for i in range(COUNT):
        folder = root / "train" / ("ant", "bee")[i % 2]
        name, kind = (f"{i}.png", "PNG") if i == 3 else (f"{i}.JPEG", "JPEG")
        write(folder / name, encoded(picture(i, 24, 32), kind))
    return root


@pytest.fixture
def call(capsys):
    """Runs a command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        code = 0
        try:
            program.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


def arguments(source, output, *more, network="edsr"):
    return f"--source=folder:{source}", f"--output={output}", f"--network={network}", *SETTINGS, *more


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The files of one uninterrupted run, by name."""
    output = tmp_path_factory.mktemp("whole")
    program.main(arguments(source, output))
    return contents(output)


def contents(output, network="edsr"):
    root = output / network / "train"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_image_becomes_a_jpeg_of_quality_75(source, whole):
    assert list(whole) == sorted(f"{('ant', 'bee')[i % 2]}/{i}.{'png' if i == 3 else 'JPEG'}" for i in range(COUNT))
    tables = []
    for content in whole.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (20, 16), "RGB")  # 4 x (5, 4) of EDSR's input
            tables.append(image.quantization)
    expected = io.BytesIO()
    Image.new("RGB", (8, 8)).save(expected, "JPEG")  # Pillow's defaults
    with Image.open(expected) as image:
        assert all(table == image.quantization for table in tables)
    assert len(set(whole.values())) == COUNT


def test_shards_make_the_same_files_as_one_host(source, whole, tmp_path, call):
    for shard in ("1/2", "0/2"):
        assert call(*arguments(source, tmp_path, f"--shard={shard}"))[0] == 0
    assert contents(tmp_path) == whole


def test_a_stop_loses_nothing_and_the_same_command_goes_on(source, whole, tmp_path, call, monkeypatch):
    save, saved = generate.save, []

    def save_and_stop(path, pixels):
        save(path, pixels)
        saved.append(path)
        if len(saved) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(generate, "save", save_and_stop)
    code, _, err = call(*arguments(source, tmp_path, "--workers=1"))
    assert code == 75 and "run the same command again" in err
    first = contents(tmp_path)
    assert 0 < len(first) < COUNT and first.items() <= whole.items()
    monkeypatch.setattr(generate, "save", save)
    stamps = {path: os.stat(path).st_mtime_ns for path in saved}
    code, out, _ = call(*arguments(source, tmp_path))
    assert code == 0 and f"{len(first)} of {COUNT} images exist already" in out
    assert contents(tmp_path) == whole
    assert all(os.stat(path).st_mtime_ns == stamp for path, stamp in stamps.items())  # none was made again


def test_images_go_by_size_and_make_the_same_files_in_any_blocks(tmp_path, monkeypatch):
    """Three sizes and several sets of weights: one block, blocks that cut sizes apart, and blocks of one."""
    for i in range(COUNT):
        write(tmp_path / f"train/ant/{i}.png", encoded(picture(i, *[(24, 30), (30, 24), (24, 24)][i % 3]), "PNG"))
    monkeypatch.setattr(generate, "REDRAW", 0.5)
    distorted, shapes = generate.distorted, []
    monkeypatch.setattr(
        generate,
        "distorted",
        lambda net, params, pixels, key: shapes.append(pixels.shape) or distorted(net, params, pixels, key),
    )
    made, changes = [], []
    for block in (COUNT, 4, 1):
        (work,) = program.distortions(program.parse(arguments(tmp_path, tmp_path / f"out{block}")))
        assert generate.generate(work, block=block) == COUNT
        made.append(contents(tmp_path / f"out{block}"))
        changes.append(sum(one != other for one, other in itertools.pairwise(shapes)))
        shapes.clear()
    sets = generate.schedule(COUNT, 5)[1]
    assert len(set(sets.tolist())) >= 3
    assert changes[0] == 2 < changes[2] and len(made[0]) == COUNT
    assert made[0] == made[1] == made[2]


def test_a_limit_makes_a_part_of_the_same_files(source, whole, tmp_path, call):
    assert call(*arguments(source, tmp_path, "--limit=4"))[0] == 0
    part = contents(tmp_path)
    assert len(part) == 4 and part.items() <= whole.items()


def test_other_settings_are_refused_by_name(source, tmp_path, call):
    assert call(*arguments(source, tmp_path, "--limit=1"))[0] == 0
    before = (tmp_path / "edsr" / generate.SETTINGS).read_bytes()
    code, _, err = call(*arguments(source, tmp_path, "--limit=1", "--seed=6"))
    assert code == 2 and "another seed" in err and err.count("\n") == 1
    code, _, err = call(*arguments(source, tmp_path, "--limit=1", "--weights=random:1"))
    assert code == 2 and "another weights_sha256" in err
    assert (tmp_path / "edsr" / generate.SETTINGS).read_bytes() == before


def test_noise2net_needs_no_weights_and_keeps_small_images_small(source, tmp_path, call):
    options = f"--source={source}", f"--output={tmp_path}", "--network=noise2net", "--limit=2"
    assert call(*options)[0] == 0
    files = contents(tmp_path, "noise2net")
    assert len(files) == 2
    for name in files:
        with Image.open(tmp_path / "noise2net" / "train" / name) as image:
            assert image.size == (32, 24)


def test_an_unreadable_image_is_named_and_its_replacement_loses_nothing(tmp_path, call):
    path, files = tmp_path / "train/ant/bad.jpg", [tmp_path / f"train/ant/{i}.jpg" for i in range(4)]
    write(path, b"\xff\xd8\xff")
    for i, file in enumerate(files):
        write(file, encoded(picture(i, 24, 32)))
    command = f"--source={tmp_path}", f"--output={tmp_path / 'out'}", "--network=noise2net", "--side=16"
    code, _, err = call(*command)
    assert code == 2 and str(path) in err and err.count("\n") == 1 and "put a readable image in its place" in err
    write(path, encoded(picture(9, 24, 32)))
    assert call(*command)[0] == 0
    assert len(contents(tmp_path / "out", "noise2net")) == 5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--network=gan"], "--network=gan"),
        (["--shard=2/2"], "--shard=2/2"),
        (["--limit=-1"], "--limit=-1"),
        (["--side=8"], "--side=8"),
        (["--weights="], "no weights for edsr"),
        (["--source=nowhere"], "nowhere"),
        (["--source=tfds:cifar10"], "which tfds:cifar10 does not have"),
        (["--seed=4294967296"], "between 0 and 4294967295"),
        (["--output="], "--output is empty"),
        (["--what=1"], "--help"),
    ],
)
def test_what_it_refuses(source, tmp_path, call, change, complaint):
    code, _, err = call(*arguments(source, tmp_path / "out", *change))
    assert code == 2 and complaint in err and err.count("\n") == 1 and err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_the_schedule():
    order, sets = generate.schedule(20_000, 3)
    assert np.array_equal(np.sort(order), np.arange(20_000)) and not np.array_equal(order, np.sort(order))
    lengths = np.bincount(sets)[np.bincount(sets) > 0]
    assert np.all(np.diff(sets) >= 0) and abs(lengths.mean() - 20) < 2 and lengths.std() > 15  # geometric
    parts = [generate.schedule(20_000, 3, (i, 7)) for i in range(7)]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), order)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), sets)
    assert np.array_equal(generate.schedule(20_000, 3, limit=50)[0], order[:50])
    assert not np.array_equal(generate.schedule(20_000, 4)[0], order)


def test_a_second_command_is_refused_another_shard_is_not(source, tmp_path, call):
    with lock.hold(tmp_path / "edsr/shard_0_of_2.lock", "a generator"):
        code, _, err = call(*arguments(source, tmp_path, "--shard=0/2"))
        assert code == 2 and "edsr/shard_0_of_2 is in use by a generator: process" in err
        assert call(*arguments(source, tmp_path, "--shard=1/2"))[0] == 0
    assert not list(tmp_path.rglob("*lock"))
