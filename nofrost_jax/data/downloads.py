"""The files of a tfds data set, by tfds's own lists: their sizes, where each comes from and where it must be."""

import dataclasses
import difflib
import os
import shutil
from typing import Any

from nofrost_jax.errors import UserError

TAR_END = 1024  # zero bytes at the end of every complete tar file
SPLITS = {"ILSVRC2012_img_train.tar": "train", "ILSVRC2012_img_val.tar": "validation"}
OTHERS = ("ILSVRC2012_img_train_t3.tar", "ILSVRC2012_img_test.tar")  # other files of image-net.org with similar names


@dataclasses.dataclass(frozen=True)
class Download:
    """A file. by_hand: tfds cannot download it; it must be in the manual directory. size: bytes, 0 = unknown."""

    name: str
    size: int
    url: str
    by_hand: bool

    def __str__(self) -> str:
        return f"{self.name} ({gigabytes(self.size)})"


def of(builder: Any) -> list[Download]:
    """The files of a builder's configuration; [] if tfds has no list of them."""
    found = []
    for url, info in (builder.url_infos or {}).items():
        name = info.filename or url.rpartition("/")[2]
        found.append(Download(name, int(info.size or 0), url, name in SPLITS))
    config = _plain(builder.builder_config.name) if builder.builder_config else ""
    own = [file for file in found if config and config in _plain(file.name)]  # not of other configurations
    return own or found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def gigabytes(count: int) -> str:
    """ "6.3 GiB", "342 MiB"."""
    if not count:
        return "unknown size"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(count / 2**20, 0.1):.3g} MiB"


def how_to_get(files: list[Download]) -> str:
    """What is needed, for a message: files to place by hand, or what the command downloads."""
    by_hand = [str(file) for file in files if file.by_hand]
    if by_hand:
        return f"TARS: a directory with {' and '.join(by_hand)}, from image-net.org after registering there"
    if not files:
        return "it downloads what it needs"
    sources = "; ".join(f"{file} from {file.url}" for file in files)
    return (
        f"it downloads {sources}; if that fails, get it by other means, keep the name, and add "
        "--manual_dir=DIRECTORY_WITH_IT"
    )


def check_manual(files: list[Download], folder: str) -> list[str]:
    """Checks the files that must be placed by hand; returns a note for each split whose file is missing. Raises
    UserError if none is there, or one has another name or is incomplete."""
    wanted = [file for file in files if file.by_hand]
    if not wanted:
        return []
    if not folder or not os.path.isdir(folder):
        raise UserError(
            f"needs {' and '.join(map(str, wanted))}; no directory --manual_dir={folder}; get them from image-net.org "
            "after registering there, and give their directory"
        )
    there, notes = sorted(os.listdir(folder)), []
    for file in wanted:
        if file.name in there:
            _check_tar(file, os.path.join(folder, file.name))
            continue
        others = [name for name in there if name not in SPLITS and name not in OTHERS]
        alike = difflib.get_close_matches(file.name, others, n=1, cutoff=0.7)
        if alike:
            raise UserError(f"{file} is not in {folder}, but {alike[0]} is; --manual_dir; rename it if it is the same")
        notes.append(f"{file} is not in {folder}: the split {SPLITS[file.name]} is left out")
    if len(notes) == len(wanted):
        raise UserError(
            f"needs {' and '.join(map(str, wanted))}, at least one of them; not in --manual_dir={folder}; put them "
            "there under exactly these names"
        )
    return notes


def _check_tar(file: Download, path: str) -> None:
    size = os.path.getsize(path)
    with open(path, "rb") as tar:
        tar.seek(max(size - TAR_END, 0))
        if size < TAR_END or any(tar.read()):
            raise UserError(
                f"{file.name} ends early: {size:,} bytes, the published file has {file.size:,}; {path}; continue its "
                "download"
            )


def check_disk(files: list[Download], data_dir: str, manual_dir: str) -> None:
    """Raises UserError if the disk of `data_dir` has too little room for the result, the largest split again while it
    is shuffled, and, unless they are placed by hand, the downloads and what is unpacked from them."""
    sizes, needed = [], 0
    for file in files:
        path = os.path.join(manual_dir or "", file.name)
        by_hand = bool(manual_dir) and os.path.isfile(path)
        sizes.append(os.path.getsize(path) if by_hand else 0 if file.by_hand else file.size)
        needed += sizes[-1] * (1 if file.by_hand else 2 if by_hand else 3)
    needed += max(sizes, default=0)
    place = os.path.abspath(os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")))
    while not os.path.exists(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"about {gigabytes(needed)} needed while preparing, {gigabytes(free)} free; {place}; free some, choose "
            "another --data_dir, or try it with --ignore_disk"
        )
