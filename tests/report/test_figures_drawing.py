"""What is drawn is what was given, read back from the axes; in style, deterministic, whatever the names are."""

import itertools
import pathlib

import matplotlib
import numpy as np
import pytest
from matplotlib import mathtext
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from nofrost_jax.report.exhibits import EXHIBITS, METHODS
from nofrost_jax.report.figures import bars, curves, grid, histograms, labels, scatter, style, tradeoff
from nofrost_jax.report.figures.style import LOOKS, Series

HOSTILE = [
    "$\\frac{1$",
    "_hidden",
    "<script>&amp;",
    "two\nlines\ttab",
    "\u6f22 \U0001f600 \x00",
    "x" * 400,
    "%s {0} \\n",
    "",
]
NOFROST, SAT = LOOKS["nofrost"], LOOKS["sat"]


@pytest.fixture(autouse=True)
def styled():
    with style.applied():
        yield


def markers(axis):
    """[(x, y)] of every line of an axes with markers, as lists."""
    return [
        tuple(map(list, line.get_data())) for line in axis.lines if line.get_marker() not in ("None", "", None, "|")
    ]


def intervals(axis):
    """[[x0, y0], [x1, y1]] of every error bar, rounded."""
    bars = [one for one in axis.collections if isinstance(one, LineCollection)]
    return [np.round(segment, 6).tolist() for one in bars for segment in one.get_segments()]


def texts(figure):
    """Everything that is written in a figure, on one line each."""
    return [" ".join(one.get_text().split()) for one in figure.findobj(matplotlib.text.Text) if one.get_visible()]


def frontier(label="MBNAT", k=3):
    share = np.linspace(0, 1, k)
    bounds = np.stack([0.6 - 0.1 * share - 0.02, 0.6 - 0.1 * share + 0.02], 1)
    return Series(label, LOOKS["mbnat"], 0.6 - 0.1 * share, 0.1 * share, bounds, None, [f"{x:g}" for x in share])


def test_tradeoff_has_every_point_interval_and_gamma():
    nets = [
        Series("NoFrost", NOFROST, [0.7], [0.05], [[0.69, 0.71]], [[0.04, 0.06]]),
        Series("NoFrost", NOFROST, [0.701], [0.0504], paper=True),
    ]
    figure = tradeoff.draw([tradeoff.Panel("PGD-20", [frontier()], nets), tradeoff.Panel("APGD-CE-20", [frontier()])])
    first, second = figure.axes
    drawn = [np.round(points, 6).tolist() for points in markers(first)]
    assert drawn == [[[60, 55, 50], [0, 5, 10]], [[70], [5]], [[70.1], [5.04]]]
    assert [[69, 5], [71, 5]] in intervals(first) and [[70, 4], [70, 6]] in intervals(first)
    hollow = [line.get_markerfacecolor() == "none" for line in first.lines]
    assert hollow == [False, False, True]
    written = [text.get_text() for text in first.texts]
    assert written.count("NoFrost") == 1 and {"0", "1"} <= set(written)
    assert (first.get_title(), second.get_title()) == ("PGD-20", "APGD-CE-20")
    assert figure.get_supxlabel() == "Clean accuracy (%)" and figure.get_supylabel() == "Accuracy under attack (%)"
    assert len(figure.legends) == 1 and "hollow: the paper" in texts(figure)
    *_, rest = tradeoff.draw([tradeoff.Panel("PGD-20", [frontier()])] * 3).axes
    assert not rest.axison and [text.get_text() for text in rest.get_legend().get_texts()] == ["MBNAT"]


@pytest.mark.parametrize("wide", [False, True])
def test_bars_begin_at_zero_and_show_what_is_missing(wide):
    methods = [
        bars.Bars("SAT", SAT, [0.5, np.nan], [[0.48, 0.52], [np.nan, np.nan]], [0.51, np.nan]),
        bars.Bars("NoFrost*", LOOKS["nofrost_star"], [0.7, 0.2]),
    ]
    figure = bars.draw(["Clean", "PGD-20"], methods, wide)
    (axis,) = figure.axes
    heights = [patch.get_height() for patch in axis.patches]
    assert np.allclose(heights, [50, np.nan, 70, 20], equal_nan=True) and all(
        patch.get_y() == 0 for patch in axis.patches
    )
    assert axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 70
    assert [[-0.21, 48], [-0.21, 52]] in intervals(axis)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["Clean", "PGD-20"]
    assert axis.get_ylabel() == "Accuracy (%)"
    assert {"SAT", "NoFrost*", style.PAPER} <= set(texts(figure))
    assert [text.get_text() for text in axis.texts] == (["50.0", "–", "70.0", "20.0"] if wide else [])
    (diamonds,) = [one for one in axis.collections if not isinstance(one, LineCollection)]
    assert np.ma.getdata(diamonds.get_offsets())[0].tolist() == [-0.21, 51]


def test_gaps_are_differences_in_points():
    rows = [
        bars.Gap("SAT", SAT, 0.038, 0.012, (0.03, 0.05), (0.01, 0.02)),
        bars.Gap("NoFrost", NOFROST, 0.05, 0.013, paper=0.0504),
    ]
    figure = bars.draw_gaps(rows)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["gap", "2.6", "3.7"]
    x = [data[0] for data in markers(axis)]
    assert np.allclose([*itertools.chain(*x)], [1.2, 3.8, 1.3, 5.0, 5.04])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["SAT", "NoFrost"]
    assert axis.get_xlim()[1] >= 5.04


def test_curves_keep_x_and_put_what_has_none_behind_it():
    line = Series("APGD-CE", SAT, [10, 20, 50, 100], [0.4, 0.3, 0.25, 0.24], y_bounds=[[0.38, 0.42]] * 4)
    end = Series("aa_standard", SAT, [1], [0.1])
    figure = curves.draw(
        [curves.Panel("SAT", [line], [end], "AA")] * 2, "Steps of the attack", across=2, by_colour=False
    )
    axis = figure.axes[0]
    (x, y), (end_x, end_y) = markers(axis)
    assert x == [10, 20, 50, 100] and np.allclose(y, [40, 30, 25, 24]) and end_x[0] > 100 and end_y == [10]
    assert axis.get_xscale() == "log" and axis.get_xlim()[0] < 10 and axis.get_xlim()[1] > end_x[0]
    assert axis.get_ylim()[1] >= 42 and figure.get_supxlabel() == "Steps of the attack"
    ticks = [label.get_text() for label in axis.get_xticklabels()]
    assert ticks == ["10", "20", "50", "100", "AA"]
    assert {"APGD-CE", "aa_standard"} <= set(texts(figure))


def test_histograms_are_shares_of_finite_values():
    values = np.array([0.1, 0.2, 0.2, 0.9, np.nan, np.inf])
    sample = histograms.Sample("SAT", SAT, values, paper=0.35)
    figure = histograms.draw([histograms.Panel("Margin", "M(x)", "larger", [sample])])
    (axis,) = figure.axes
    outline = axis.patches[1].get_data()
    counted, edges = np.histogram(values[:4], outline.edges)
    assert np.allclose(outline.values, counted * 25) and outline.values.sum() == pytest.approx(100)
    assert edges[0] == 0.1 and edges[-1] == 0.9 and axis.get_ylim()[0] == 0
    assert [data[0] for data in markers(axis)] == [[pytest.approx(0.35)], [0.35]]  # ours, the paper's
    assert axis.get_title() == "Margin (larger is better)" and axis.get_xlabel() == "M(x)"
    assert figure.get_supylabel() == "Share of images (%)"


def test_scatter_has_every_channel():
    channels = scatter.Channels("ST", LOOKS["st"], [0.0, 1.0], [0.5, 2.0])
    figure = scatter.draw([scatter.Panel("Norm 15 in module order", "stage2_block2/norm3", [channels])])
    (axis,) = figure.axes
    assert axis.collections[0].get_offsets().tolist() == [[0.0, 0.5], [1.0, 2.0]]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Running mean", "Running variance")
    assert axis.get_title() == "Norm 15 in module order\nstage2_block2/norm3" and axis.get_yscale() == "linear"
    spread = scatter.Channels("ST", LOOKS["st"], [0.0, 1.0], [0.001, 2.0])
    assert scatter.draw([scatter.Panel("", "", [spread])]).axes[0].get_yscale() == "log"


def test_examples_show_the_images_and_the_change():
    clean = np.full((4, 4, 3), 0.5)
    adversarial = clean + np.where(np.arange(3) == 0, 8 / 255, -4 / 255)
    figure = grid.draw([grid.Example(clean, adversarial, "tench, Tinca tinca", "", False)], 8)
    image, change, attacked = (np.asarray(axis.images[0].get_array()) for axis in figure.axes)
    assert np.allclose(image, clean) and np.allclose(attacked, adversarial)
    assert np.allclose(change[0, 0], [1, 0.25, 0.25])
    assert figure.axes[0].get_title() == "tench" and figure.axes[2].get_xlabel() == "fooled"
    assert figure.axes[1].get_ylabel() == "change × 15.9"


def hostile_figures(name):
    """A figure of every kind with a name wherever there is one."""
    series = Series(name, NOFROST, [0.5], [0.2], marks=[name])
    yield tradeoff.draw([tradeoff.Panel(name, [series], [Series(name, SAT, [0.4], [0.1])])])
    yield bars.draw([name, name], [bars.Bars(name, SAT, [0.1, 0.2])], wide=True)
    yield bars.draw_gaps([bars.Gap(name, SAT, 0.2, 0.1)])
    yield curves.draw([curves.Panel(name, [Series(name, SAT, [8, 16], [0.2, 0.1])])], "Radius", 1)
    yield histograms.draw([histograms.Panel(name, name, name, [histograms.Sample(name, SAT, [1.0, 2.0])])])
    yield scatter.draw([scatter.Panel(name, name, [scatter.Channels(name, SAT, [0.0], [1.0])])])
    yield grid.draw([grid.Example(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), name, name, False)], 8)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_never_markup(name, monkeypatch, tmp_path):
    def parse(*_):
        raise AssertionError("read as mathematics")

    monkeypatch.setattr(mathtext.MathTextParser, "parse", parse)
    wanted = style.plain(name, 20).strip()
    for number, figure in enumerate(hostile_figures(name)):
        (svg, _) = style.save(figure, tmp_path / str(number), name)
        assert "<script>" not in pathlib.Path(svg).read_text()
        assert any(wanted[:5] in text for text in texts(figure))


def test_plain_texts_stay_as_they_are_and_others_become_one_short_line():
    assert style.plain("NoFrost*, γ = 0.5") == "NoFrost*, γ = 0.5"
    assert style.plain(" a\n b\t", 5) == "a b" and style.plain("abcdef", 5) == "abcd…"
    assert style.plain("_a") == " _a" and style.plain("\u6f22") == "\ufffd" and style.plain("") == ""


EMPTY = {
    "tradeoff": lambda wide: tradeoff.draw([], wide),
    "no points": lambda wide: tradeoff.draw([tradeoff.Panel("PGD", [Series("", SAT, [], [])], [])], wide),
    "one gamma": lambda wide: tradeoff.draw(
        [tradeoff.Panel("PGD", [Series("M", SAT, [0.0], [0.0], marks=["0"])])], wide
    ),
    "bars": lambda wide: bars.draw([], [], wide),
    "one bar": lambda wide: bars.draw(["Clean"], [bars.Bars("a", SAT, [0.0])], wide),
    "no value": lambda wide: bars.draw(["Clean"], [bars.Bars("a", SAT, [np.nan])], wide),
    "gaps": lambda wide: bars.draw_gaps([]),
    "curves": lambda wide: curves.draw([], "x", 2, wide),
    "one radius": lambda wide: curves.draw([curves.Panel("", [Series("a", SAT, [8], [1.0])])], "x", 1, wide),
    "histograms": lambda wide: histograms.draw([], wide),
    "all the same": lambda wide: histograms.draw(
        [histograms.Panel("", "", "", [histograms.Sample("a", SAT, [0.5] * 3)])], wide
    ),
    "not finite": lambda wide: histograms.draw(
        [histograms.Panel("", "", "", [histograms.Sample("a", SAT, [np.nan])])], wide
    ),
    "scatter": lambda wide: scatter.draw([], wide),
    "no channels": lambda wide: scatter.draw([scatter.Panel("", "", [scatter.Channels("a", SAT, [], [])])], wide),
    "grid": lambda wide: grid.draw([], 8, wide),
}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("kind", EMPTY)
def test_little_or_nothing_can_be_drawn(kind, wide, tmp_path):
    figure = EMPTY[kind](wide)
    assert isinstance(figure, Figure) and len(style.save(figure, tmp_path / "x", kind)) == 2


def test_files_are_the_same_bytes_and_have_the_size_of_a_column(tmp_path):
    def save(name, y):
        panel = tradeoff.Panel("PGD", [frontier()], [Series("NoFrost", NOFROST, [0.7], [y])])
        return [pathlib.Path(path).read_bytes() for path in style.save(tradeoff.draw([panel]), tmp_path / name, "PGD")]

    first, again, other = save("a", 0.05), save("b", 0.05), save("c", 0.06)
    assert first == again and first[0] != other[0] and first[1] != other[1]
    assert b"<dc:date>" not in first[0] and b"<title>PGD</title>" in first[0] and b"<text" not in first[0]
    width = int.from_bytes(first[1][16:20], "big")
    assert width == round(200 * style.COLUMN)


def test_the_users_own_style_changes_nothing(tmp_path):
    def save():
        with style.applied():
            return pathlib.Path(
                style.save(bars.draw(["a"], [bars.Bars("x", SAT, [0.5])]), tmp_path / "x", "")[0]
            ).read_bytes()

    before = save()
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "red", "text.parse_math": True, "svg.hashsalt": "z"}
    ):
        assert save() == before


def test_every_row_has_its_own_look_and_no_figure_of_the_paper_has_a_colour_twice():
    assert set(LOOKS) == set(METHODS)
    assert len({(look.colour, look.marker) for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.marker for look in LOOKS.values()}) >= 14
    for exhibit in EXHIBITS.values():
        rows = {net.row for net in exhibit.nets} - {"st_nf", "sat_in"}  # of tables only
        if exhibit.name.startswith("figure"):
            assert len({LOOKS[row].colour for row in rows}) == len(rows), exhibit.name
    for name in ("figure3", "figure4"):
        hatches = [LOOKS[row].hatch for row in {net.row for net in EXHIBITS[name].nets} - {"st", "nofrost_star"}]
        assert len(set(hatches)) == len(hatches) and all(hatches)


def test_texts_beside_points_cover_neither_points_nor_each_other():
    figure = Figure(figsize=(3, 3), layout="none")
    axis = figure.subplots()
    axis.set(xlim=(0, 10), ylim=(0, 10))
    spots = np.array([[x, 5.0] for x in range(1, 10)])
    wanted = [labels.Label(x, y, f"name {x:g}", style.INK) for x, y in spots]
    written = labels.place(axis, wanted, [spots])
    boxes = [text.get_window_extent() for text in written]
    assert [text.get_text() for text in written] == [label.text for label in wanted]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    marks = axis.transData.transform(spots)
    assert not any(box.contains(*mark) for box in boxes for mark in marks)
    frame = axis.get_window_extent()
    assert all(frame.contains(*corner) for box in boxes for corner in box.corners())


def test_a_text_without_room_is_left_out_only_if_it_may_be():
    figure = Figure(figsize=(1, 1), layout="none")
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    spots = np.full((30, 2), 0.5) + 0.004 * np.arange(30)[:, None]
    for optional, count in ((False, 30), (True, 1)):
        wanted = [labels.Label(*spot, "0.5", style.INK, optional) for spot in spots]
        assert (len(labels.place(axis, wanted, [spots])) == 30) == (count == 30)


@pytest.mark.parametrize(("highest", "limit"), [(0, 10), (1.2, 1.5), (6.4, 7), (37, 40), (72, 80), (99.9, 100)])
def test_axes_end_at_round_numbers(highest, limit):
    assert style.upper_limit(highest) == pytest.approx(limit)


def test_a_legend_has_as_many_columns_as_fit():
    names = ["ST", "SAT", "TRADES", "FAT", "TRADES-FAT", "NoFrost"]
    assert style.columns_for(names, style.PAGE) == 6 and 2 <= style.columns_for(names, style.COLUMN) <= 4
    assert style.columns_for(["x" * 200] * 3, 1) == 1 and style.columns_for([], 1) == 1
