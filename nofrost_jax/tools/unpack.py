"""Unpacks ImageNet's two tar files into the folders of `folder:DIR`: DIR/train/WNID/*.JPEG and DIR/val/WNID/*.JPEG.

    python -m nofrost_jax.tools.unpack --manual_dir=TARS --output=DIR

The validation images come without labels; they are sorted by the official list, which tfds contains. The same command
continues where it was stopped: complete files stay. Either tar alone is enough for its split.
"""

import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from nofrost_jax import files, lock
from nofrost_jax.data import downloads, folder
from nofrost_jax.errors import Parser, UserError, exit_codes, refused
from nofrost_jax.progress import shown

_TRAIN, _VAL = downloads.SPLITS
_WNID = re.compile(r"(n\d{8})\.tar")
_Member = tuple[tarfile.TarFile, tarfile.TarInfo]  # an image in its archive, not read yet
_IMAGE = re.compile(r"[\w.-]+\.JPEG")


def unpack(tars: str, output: str) -> dict[str, int]:
    """Number of images of each split, {"train": ..., "val": ...}. Raises UserError if neither tar exists, or one is
    damaged or another file."""
    there = [name for name in (_TRAIN, _VAL) if os.path.isfile(os.path.join(tars, name))]
    if not there:
        raise UserError(f"neither {_TRAIN} nor {_VAL}; --manual_dir={tars}; put them there under exactly these names")
    with lock.hold(lock.place(output), "an unpacker"):
        return _unpack(tars, there, Path(output).expanduser())


def _unpack(tars: str, there: list[str], root: Path) -> dict[str, int]:
    counts = {}
    for name in there:
        path, split = Path(tars, name), "train" if name == _TRAIN else "val"
        try:
            with tarfile.open(path) as archive:
                images = _train(archive, path) if name == _TRAIN else _validation(archive, path)
                counts[split] = sum(_write(file, root / split / place) for place, file in images)
        except tarfile.ReadError as error:
            what = str(error).splitlines()[0]
            raise UserError(f"damaged archive ({what}); {path}; download it again") from error
        except OSError as error:
            raise refused(f"cannot unpack to {error.filename or root}", error, "correct it, run again") from error
    return counts


def _train(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, _Member]]:
    """("WNID/NAME", image) of every image; the archive contains a tar for each class."""
    members = [member for member in archive.getmembers() if member.isfile()]
    for member in shown(members, len(members), "unpacking train", "classes"):
        match = _WNID.fullmatch(os.path.basename(member.name))
        if match is None:
            raise UserError(f"{member.name} is not a class archive; {path}; not ImageNet's training tar")
        with tarfile.open(fileobj=archive.extractfile(member)) as inner:
            for image in inner:
                yield f"{match[1]}/{_checked(image, path)}", (inner, image)


def _validation(archive: tarfile.TarFile, path: Path) -> Iterator[tuple[str, _Member]]:
    """("WNID/NAME", image) of every image: the labels belong to the names in sorted order."""
    labels, members = validation_wnids(), sorted(archive.getmembers(), key=lambda member: member.name)
    members = [member for member in members if member.isfile()]
    if len(members) > len(labels):
        raise UserError(f"{len(members)} files instead of 50,000; {path}; this is not ImageNet's validation tar")
    for wnid, member in zip(labels, shown(members, len(members), "unpacking val", "images"), strict=False):
        yield f"{wnid}/{_checked(member, path)}", (archive, member)


def validation_wnids() -> list[str]:
    """WordNet ids of the 50,000 validation images in the order of their names."""
    return folder.imagenet_list("validation_labels.txt", "the list of validation labels comes with tfds")


def _checked(member: tarfile.TarInfo, path: Path) -> str:
    """The plain name of an image, which cannot lead out of the output folder."""
    name = os.path.basename(member.name)
    if not member.isfile() or _IMAGE.fullmatch(name) is None:
        raise UserError(f"{member.name} is not an image; {path}; this is not ImageNet's tar")
    return name


def _write(image: _Member, path: Path) -> int:
    """Writes an image atomically, unless it is there. Returns 1."""
    archive, member = image
    if not path.is_file() or path.stat().st_size != member.size:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path, sync=False) as file:
            content = archive.extractfile(member)
            assert content is not None  # `_checked` lets files through only
            shutil.copyfileobj(content, file)
    return 1


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("tools.unpack", __doc__)
    parser.add_argument("--manual_dir", required=True, help="where the tar files are")
    parser.add_argument("--output", required=True, help="folder to write; use it as config.data.source=folder:OUTPUT")
    with exit_codes():
        options = parser.parse_args(arguments)
        counts = unpack(os.path.expanduser(options.manual_dir), options.output)
    print(f"unpacked: {', '.join(f'{count:,} images in {split}/' for split, count in counts.items())}")


if __name__ == "__main__":
    main()
