"""What a tfds data set is made of: files, their sizes, where each comes from and goes. Read out of tfds's own lists."""

import dataclasses
import difflib
import os
import shutil

from nofrost_jax.errors import UserError

TAR_END = 1024  # Zero bytes at the end of every complete tar file.
SPLITS = {"ILSVRC2012_img_train.tar": "train", "ILSVRC2012_img_val.tar": "validation"}
OTHERS = ("ILSVRC2012_img_train_t3.tar", "ILSVRC2012_img_test.tar")  # Real files of that name, and not those above.


@dataclasses.dataclass(frozen=True)
class Download:
    """A file. `by_hand`: tfds cannot get it; it must lie in the manual directory. `size` in bytes, 0 = unknown."""

    name: str
    size: int
    url: str
    by_hand: bool

    def __str__(self):
        return f"{self.name} ({gigabytes(self.size)})"


def of(builder) -> list[Download]:
    """The files of a builder's configuration. Empty where tfds keeps no list."""
    found = []
    for url, info in (builder.url_infos or {}).items():
        name = info.filename or url.rpartition("/")[2]
        found.append(Download(name, int(info.size or 0), url, name in SPLITS))
    config = _plain(builder.builder_config.name) if builder.builder_config else ""
    own = [file for file in found if config and config in _plain(file.name)]  # Others belong to other configurations.
    return own or found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def gigabytes(count: int) -> str:
    """For people: "6.3 GiB", "342 MiB"."""
    if not count:
        return "unknown size"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(count / 2**20, 0.1):.3g} MiB"


def how_to_get(files: list[Download]) -> str:
    """What has to be had, for a message: by hand, or by the command itself."""
    by_hand = [str(file) for file in files if file.by_hand]
    if by_hand:
        return f"TARS: a directory with {' and '.join(by_hand)}, from image-net.org after registering there"
    if not files:
        return "it downloads what it needs"
    sources = "; ".join(f"{file} from {file.url}" for file in files)
    return (
        f"it downloads {sources}; where it cannot, get it by other means, keep the name, and add "
        "--manual_dir=DIRECTORY_WITH_IT"
    )


def check_manual(files: list[Download], folder: str) -> list[str]:
    """Looks at the files that must be placed by hand: the splits that are left out for want of theirs, as notes.

    Raises:
      UserError: none is there, one is there under another name, or one is incomplete.
    """
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
            raise UserError(f"{file} is not in {folder}, but {alike[0]} is; --manual_dir; if it is that, rename it")
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
                f"{file.name} ends early: {size:,} bytes, the published file has {file.size:,}; {path}; go on with its "
                "download"
            )


def check_disk(files: list[Download], data_dir: str, manual_dir: str) -> None:
    """Estimates what preparing needs on the disk of `data_dir`: the result, the largest split once more while it is
    shuffled, and, of what is not placed by hand, the download and what is unpacked of it.

    Raises:
      UserError: so much is not free.
    """
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
            "another --data_dir, or add --ignore_disk to try it"
        )
