"""Prepares a tfds data set, e.g. ImageNet from its two tar files.

    python -m nofrost_jax.tools.prepare imagenet2012 --manual_dir=TARS --data_dir=DIR

TARS contains ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar under exactly these names. For a while twice the size
of the result is needed on disk, or more. Other data sets are downloaded, or taken from TARS if a download is already
there, under the name that --list shows.
"""

import contextlib
import errno
import importlib.util
import os
import re
import sys
import tarfile

from nofrost_jax import lock
from nofrost_jax.data import downloads, tfds_source
from nofrost_jax.errors import MachineError, Parser, UserError, exit_codes


def prepare(name: str, data_dir: str = "", manual_dir: str = "", ignore_disk: bool = False) -> str:
    """Downloads or reads a data set, converts it to ArrayRecord files (in a bucket: TFRecord files) and returns their
    directory; at once if they exist.

    Raises UserError for an unknown data set; a file that is missing in `manual_dir`, misnamed, incomplete or not the
    published one; a failed download; too little disk space (unless `ignore_disk`); a missing package.
    """
    builder = tfds_source.find_builder(name, data_dir)
    tfds = tfds_source.import_tfds()
    if builder.info.splits:
        return str(builder.data_path)
    if importlib.util.find_spec("importlib_resources") is None:
        raise UserError("tfds cannot prepare without importlib_resources; package; pip install importlib_resources")
    manual_dir, files = os.path.expanduser(manual_dir), downloads.of(builder)
    for note in downloads.check_manual(files, manual_dir):
        print(f"note: {note}", file=sys.stderr)
    if not ignore_disk:
        downloads.check_disk(files, data_dir, manual_dir)
    download = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    try:
        with _alone(str(builder.data_path)):
            kind = "tfrecord" if "://" in str(builder.data_path) else "array_record"
            builder.download_and_prepare(download_config=download, file_format=kind)
    except (AssertionError, FileNotFoundError) as error:  # tfds's report of missing manual files
        raise UserError(f"{_line(error)}; --manual_dir={manual_dir}; put the files there and run again") from error
    except (tarfile.ReadError, EOFError) as error:
        where = manual_dir or "the download directory"
        raise UserError(f"damaged archive ({_line(error)}); {where}; download it again") from error
    except Exception as error:
        if explained := _explain(error, files):
            raise explained from error
        raise
    return str(builder.data_path)


def _alone(path: str) -> contextlib.AbstractContextManager:
    """The lock of a data set's folder, DIR/NAME of DIR/NAME/VERSION; a bucket has none."""
    return contextlib.nullcontext() if "://" in path else lock.hold(lock.place(os.path.dirname(path)), "a preparation")


def _explain(error: Exception, files: list[downloads.Download]) -> MachineError | UserError | None:
    """What an error of tfds means, by its name because these classes are not public; None for all others."""
    if type(error).__name__ == "NonMatchingChecksumError":
        found = re.search(r"Artifact (\S+), downloaded to (\S+?),", str(error))
        url, path = found.groups() if found else ("the download", "the download directory")
        return UserError(
            f"not the published file, or damaged (wrong checksum); {path}; remove it and download it again from {url}"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return MachineError(
            f"the disk is full; {error.filename or '--data_dir'}; free some, or choose another --data_dir"
        )
    by_network = isinstance(error, ConnectionError) or type(error).__module__.startswith(("requests.", "urllib"))
    if by_network or type(error).__name__ == "DownloadError":
        wanted = ", ".join(f"{file} from {file.url}" for file in files) or "what it needs"
        return UserError(
            f"cannot download ({_line(error)[:200]}); {wanted}; get it by other means, keep the name, and give its "
            "directory as --manual_dir"
        )
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _list(name: str, data_dir: str) -> None:
    """Prints the files of a data set, and its configurations where it has several."""
    builder = tfds_source.find_builder(name, data_dir)
    for file in downloads.of(builder):
        print(f"{file.name}  {file.size:,} bytes  {file.url}" + "  (by hand)" * file.by_hand)
    names = tfds_source.configurations(name)
    if len(names) > 1:
        print(f"configurations: {', '.join(names)}; these files are of {builder.builder_config.name}")


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("tools.prepare", __doc__)
    parser.add_argument("name", help="tfds data set, e.g. imagenet2012 or cifar10")
    parser.add_argument("--data_dir", default="", help="where to put it; default: tfds's own place")
    parser.add_argument("--manual_dir", default="", help="folder of files that you placed yourself")
    parser.add_argument("--ignore_disk", action="store_true", help="try it with too little free disk space")
    parser.add_argument("--list", action="store_true", help="only list its files")
    with exit_codes():
        options = parser.parse_args(arguments)
        if options.list:
            _list(options.name, options.data_dir)
            return
        path = prepare(options.name, options.data_dir, options.manual_dir, options.ignore_disk)
    print(f"prepared: {path}")


if __name__ == "__main__":
    main()
