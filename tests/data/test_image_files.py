"""Image files are there whole or not at all."""

import numpy as np
import pytest
from PIL import Image

from nofrost_jax.data import image_files
from nofrost_jax.errors import UserError
from tests.data.helpers import picture


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("JPEG", {"quality": 75})])
def test_a_file_is_written_with_its_folders(tmp_path, kind, options):
    path = tmp_path / "a/b" / f"0.{kind}"
    image_files.save(path, picture(1), kind, **options)
    with Image.open(path) as image:
        assert image.format == kind and np.array_equal(image, picture(1)) == (kind == "PNG")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "0.PNG"
    image_files.save(path, picture(1), "PNG")
    before = path.read_bytes()

    def full(image, file, kind, **options):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match=r"cannot write \(No space left on device\); .*0\.PNG; make room"):
        image_files.save(path, picture(2), "PNG")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    with pytest.raises(UserError, match="cannot write"):
        image_files.save(path / "0.PNG", picture(2), "PNG")
