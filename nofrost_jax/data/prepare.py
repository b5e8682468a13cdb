"""Prepares a tfds data set once, e.g. ImageNet from its two tar files.

    python -m nofrost_jax.data.prepare imagenet2012 --manual_dir=TARS --data_dir=DIR

TARS holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar under exactly these names. Needs twice the size of the
result on disk for a while, or more. Other data sets are downloaded, or taken from TARS if a download lies there
already.
"""

import argparse
import os
import sys

from nofrost_jax.data import tfds_source
from nofrost_jax.errors import UserError


def prepare(name: str, data_dir: str = "", manual_dir: str = "") -> str:
    """Downloads or reads, converts to TFRecord files and returns their directory.

    Raises:
      UserError: unknown data set, or its files are not in `manual_dir`.
    """
    builder = tfds_source.find_builder(name, data_dir)
    _, tfds = tfds_source.import_tfds()
    download = tfds.download.DownloadConfig(manual_dir=os.path.expanduser(manual_dir) or None)
    try:
        builder.download_and_prepare(download_config=download, file_format="tfrecord")
    except (AssertionError, FileNotFoundError) as error:  # How tfds reports missing manual files.
        what = " ".join(str(error).split())
        raise UserError(f"{what}; --manual_dir={manual_dir}; put the files there and run again") from error
    return str(builder.data_path)


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m nofrost_jax.data.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="tfds data set, e.g. imagenet2012 or cifar10")
    parser.add_argument("--data_dir", default="", help="where to put it; default: tfds's own place")
    parser.add_argument("--manual_dir", default="", help="where the tar files are")
    arguments = parser.parse_args()
    try:
        print(f"prepared: {prepare(arguments.name, arguments.data_dir, arguments.manual_dir)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
