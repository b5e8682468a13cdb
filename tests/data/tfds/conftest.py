"""The real ImageNet builder on a home-made archive of tiny JPEGs."""

from pathlib import Path

import pytest

from nofrost_jax.data import folder, tfds_source
from nofrost_jax.tools import prepare
from tests.data.helpers import config, encoded, picture, validation_files, write_imagenet_tars

CLASSES, PER_CLASS, NUM_EVAL = (5, 6, 700), 12, 13
NUM_TRAIN = len(CLASSES) * PER_CLASS


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """(data_dir, {label: training JPEGs}, validation JPEGs, directory of the tars), prepared by our own command."""
    tars, target = tmp_path_factory.mktemp("tars"), tmp_path_factory.mktemp("tfds")
    wnids = folder._imagenet_wnids()
    train = {c: [encoded(picture(1000 * c + i)) for i in range(PER_CLASS)] for c in CLASSES}
    evaluation = [encoded(picture(90 + i)) for i in range(NUM_EVAL)]
    classes = {wnids[c]: {f"{wnids[c]}_{i}.JPEG": image for i, image in enumerate(train[c])} for c in CLASSES}
    write_imagenet_tars(tars, classes, validation_files(evaluation))
    assert Path(prepare.prepare("imagenet2012", str(target), str(tars))).is_dir()
    return str(target), train, evaluation, tars


@pytest.fixture(scope="session")
def tfrecord(imagenet, tmp_path_factory):
    """data_dir of the same, prepared as TFRecord files."""
    target = tmp_path_factory.mktemp("tfrecord")
    prepare_with_tfds(target, imagenet[3], "tfrecord")
    return str(target)


def prepare_with_tfds(target, tars, kind, **options):
    """In a file format, without our command."""
    tfds = tfds_source.import_tfds()
    download = tfds.download.DownloadConfig(manual_dir=str(tars), **options)
    builder = tfds.builder("imagenet2012", data_dir=str(target))
    builder.download_and_prepare(download_config=download, file_format=kind)


@pytest.fixture
def imagenet_config(imagenet):
    return config(
        "tfds:imagenet2012", data_dir=imagenet[0], num_classes=1000, eval_resize=18, augmentation="random_resized_crop"
    )


@pytest.fixture(params=["array_record", "tfrecord"])
def settings(imagenet_config, request):
    if request.param == "tfrecord":
        imagenet_config.data.data_dir = request.getfixturevalue("tfrecord")
    return imagenet_config


def in_sequence(settings):
    """Whether the data set is prepared as TFRecord files."""
    return "tfrecord" in settings.data.data_dir
