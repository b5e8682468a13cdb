"""Tables as text, and images side by side."""

import numpy as np

from nofrost_jax import picture_grid, tables
from nofrost_jax.picture_grid import Cell


def test_columns_are_aligned_and_empty_ones_left_out():
    rows = [("", "accuracy", "95 %", "flags"), ("clean", "9.00%", "", ""), ("pgd_20", "10.25%", "", "weak")]
    assert tables.aligned(rows, "<><<") == ["        accuracy  flags", "clean      9.00%", "pgd_20    10.25%  weak"]
    assert tables.aligned([("a", "b")], "<>") == [""]


def test_markdown_has_numbers_to_the_right():
    text = tables.markdown(["Task", "Seconds", "Result"], [("a", "1", "done")], left={"Result"})
    assert text == "| Task | Seconds | Result |\n| --- | ---: | --- |\n| a | 1 | done |"


def test_every_cell_is_drawn_in_its_place():
    """Of one size, whatever it was before; enlarged pixels stay squares, and labels within their cells."""
    shades = np.full((2, 3, 4, 6, 3), np.arange(6).reshape(2, 3, 1, 1, 1) * 40, np.uint8)
    rows = [[Cell(image) for image in shades[0]], [Cell(image, "a wide label", (255, 0, 0)) for image in shades[1]]]
    rows[0][1] = Cell(np.full((8, 12, 3), 40, np.uint8))
    drawn = np.asarray(picture_grid.draw(rows, 60, names=("one", "two")))
    left = drawn.shape[1] - 3 * 68
    for row, top in enumerate((8, 56)):
        for column in range(3):
            cell = drawn[top : top + 40, left + column * 68 : left + column * 68 + 60]
            assert (cell == shades[row, column, 0, 0]).all(), (row, column)
    below, gaps = drawn[96:], [left + column * 68 + 60 + np.arange(8) for column in range(3)]
    assert (below[..., 0] > below[..., 1]).any() and (below[:, np.concatenate(gaps)] == 255).all()
    assert picture_grid.draw(rows, 60, "a title that is wider than the images " * 2).width > 3 * 68 + 8
    two = np.arange(2, dtype=np.uint8)[None, :, None].repeat(3, 2) * 255
    assert set(np.asarray(picture_grid.draw([[Cell(two)]], 60))[8:38, 8:68].ravel()) == {0, 255}
