"""Figures from result files: which values they show, what their captions say, and what is missing."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from nofrost_jax.report import figures
from nofrost_jax.report.collect import IMAGENET, collect
from nofrost_jax.report.figures import beyond, grid, lookup, papers, style, table
from tests.conftest import ROOT
from tests.report import figured, made, test_reading

NAMES = ["figure1", "figure2", "figure3", "figure5", "figure6", "figure7", "strength", "gap", "examples"]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """(collection, folder of the report, figures drawn, figures missing) of results for every figure."""
    folder, out = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("report")
    figured.everything(folder)
    found = collect(folder)
    return found, out, *figures.draw_all(found, out)


def drawn(make, *arguments, wide=True):
    with style.applied():
        return make(*arguments).draw(wide)


def lines(axis):
    """{(marker, whether hollow): [(x, y)]} of what is drawn with markers."""
    found = {}
    for line in axis.lines:
        if line.get_marker() not in ("None", "", None, "|"):
            key = line.get_marker(), line.get_markerfacecolor() == "none"
            found.setdefault(key, []).append(tuple(np.round(data, 4).tolist() for data in line.get_data()))
    return found


def test_every_figure_is_drawn_and_written(everything):
    _, out, done, missing = everything
    assert [one.name for one in done] == NAMES
    assert {(one.name, one.exhibit) for one in missing} == {("figure2_resnet50", "figure2"), ("figure4", "figure4")}
    written = {f"figures/{name}" for name in os.listdir(out / "figures")}
    assert written == {path for one in done for path in one.files}
    assert {f"figures/figure2{wide}.{kind}" for wide in ("", "_wide") for kind in ("svg", "png")} <= written
    for one in missing:
        assert one.command.startswith(f"python -m nofrost_jax.tools.reproduce {one.exhibit} --workdir=")


def test_captions_say_what_was_measured_and_how(everything):
    captions = {one.name: one.caption for one in everything[2]}
    assert "Data: ImageNet, 50,000 images (aa_standard: 1,000 to 5,000); epsilon 8/255." in captions["figure2"]
    assert "seeds (NoFrost: 3)" in captions["figure2"] and "95 % intervals" in captions["figure2"]
    assert "Flags: weak_attack (pgd_20 of 6 methods)." in captions["figure2"]
    assert (
        "only the latter measures robustness" in captions["gap"]
        and "500 images; smoothness at epsilon 8/255" in captions["figure6"]
    )
    assert "all images count" in captions["figure7"] and "epsilon" not in captions["figure7"]
    assert "both readings" in captions["figure1"]


def test_nets_that_were_trained_elsewhere_are_in_the_figures(tmp_path):
    """They are of no row of the paper's tables."""
    for name, row, radius in (("a.pth", "nofrost", 8.0), ("b.pth", "sat", 4.0)):
        attacks = [
            figured.attack(f"apgd_ce_{steps}", 10, epsilon_255=radius, attack="apgd_ce", steps=steps)
            for steps in (20, 100)
        ]
        attacks += [figured.attack(name, 5, epsilon_255=radius) for name in ("aa_fast_20", "aa_standard")]
        one = made.result(made.net(row, epsilon_255=radius), attacks=attacks, sha=name, flags=["partial"])
        one["checkpoint"]["file"] = name
        made.write(tmp_path / name, one)
    made.write(tmp_path / "ours", figured.paper("sat"))
    found = collect(tmp_path)
    labels = [text.get_text() for text in drawn(beyond.gap, found, IMAGENET).axes[0].get_yticklabels()]
    assert labels == ["SAT, 8/255", "b.pth, 4/255", "a.pth, 8/255"]
    panels = {axis.get_title() for axis in drawn(beyond.strength, found, IMAGENET).axes}
    assert {"a.pth, 8/255", "b.pth, 4/255"} <= panels
    assert "partial" in beyond.strength(found, IMAGENET).caption  # a flag of the whole result


def test_no_more_images_are_unpacked_than_a_figure_shows(tmp_path):
    figured.pictures(tmp_path, "paper", "pgd_20", np.random.default_rng(0), k=20, side=4)
    shown = beyond.read_examples(str(tmp_path / "evaluations" / "paper_images" / "pgd_20.npz"))
    assert len(shown) == grid.SHOWN_WIDE and {one.robust for one in shown} == {True, False}


def test_the_tradeoff_has_both_protocols_gammas_seeds_and_the_papers_values(everything):
    figure = drawn(papers.trade_off, everything[0], IMAGENET, 26)
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(panels) == list(papers.PANELS.values())
    axis = panels["PGD-20"]
    found = lines(axis)
    (gammas,) = found["s", False]
    assert len(gammas[0]) == 11 and gammas[0] == sorted(gammas[0], reverse=True)  # less clean accuracy with more gamma
    ours = np.mean([12.2, 1.1 * 12.2, 1.2 * 12.2])
    assert found["o", False] == [([70.1], [pytest.approx(ours, abs=0.01)])]
    assert found["o", True] == [([70.13], [12.24])]
    published = lines(panels["APGD-CE-20"])["s", True]
    assert sorted(published) == [([57.08], [6.27]), ([69.71], [0.0])]
    narrow = drawn(papers.trade_off, everything[0], IMAGENET, 26, wide=False)
    assert {marker for marker, _ in lines(narrow.axes[0])} == {"s", "o"}


def test_several_seeds_give_a_mean_and_a_deviation(everything):
    (net,) = [one for one in lookup.nets(everything[0].nets) if one.label == "NoFrost"]
    one = lookup.number(net, "pgd_20")
    values = [value.accuracy for value in one.values]
    assert len(values) == 3 and one.mean == pytest.approx(np.mean(values))
    assert np.allclose(one.bounds, one.mean + np.std(values, ddof=1) * np.array([-1, 1]))
    (single,) = [one for one in lookup.nets(everything[0].nets) if one.label == "SAT"]
    one = lookup.number(single, "pgd_20")
    assert one.bounds == one.values[0].ci95 and lookup.number(single, "cw_20") is None


def test_seeds_that_were_attacked_in_another_way_are_left_out(tmp_path):
    for seed, rule in enumerate(("nofrost", "madry", "nofrost")):
        attacks = [figured.attack("pgd_20", 10 + seed, step_rule=rule)]
        made.write(tmp_path / str(seed), made.result(made.net(seed=seed), attacks=attacks, sha=str(seed)))
    (net,) = lookup.nets(collect(tmp_path).nets)
    assert [value.accuracy for value in lookup.number(net, "pgd_20").values] == [0.1, 0.12]


def test_bars_have_the_papers_values_where_it_has_them(everything):
    figure = drawn(papers.comprehensive, everything[0], IMAGENET, "figure3")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == list(papers.GROUPS.values())
    heights = np.array([patch.get_height() for patch in axis.patches]).reshape(6, 6)
    assert np.allclose(heights[-1, 1:4], [49, 45, 37])  # NoFrost* on ImageNet-C, -R, -Sketch
    diamonds = [
        one.get_offsets()[:, 1]
        for one in axis.collections
        if hasattr(one, "get_offsets") and len(one.get_offsets()) == 6
    ]
    known = np.ma.filled(np.ma.array(diamonds).astype(float), np.nan)
    assert np.allclose(known[0, [0, 4, 5]], [72.68, 0.01, 27.5]) and np.isnan(known[-1]).all()


def test_radii_are_shown_in_both_counts(everything):
    figure = drawn(papers.radii, everything[0], IMAGENET)
    all_images, right = figure.axes
    assert (all_images.get_title(), right.get_title()) == (
        "All images (as in the paper)",
        "Images that are right when clean",
    )
    ((x, y),), ((_, fewer),) = lines(all_images)["o", False], lines(right)["o", False]
    assert x == list(map(float, figured.RADII)) and y[0] == pytest.approx(36.6, abs=0.01)
    assert np.allclose(fewer, 0.9 * np.array(y), atol=0.01)


def test_strength_is_of_one_result(everything):
    figure = drawn(beyond.strength, everything[0], IMAGENET)
    axis = next(axis for axis in figure.axes if axis.get_title() == "SAT")
    found = lines(axis)
    (curve,) = found["o", False]
    assert curve[0] == [10, 20, 50, 100] and curve[1][1] == pytest.approx(5.6, abs=0.05)  # not 5.0 of the other result
    assert len(found["s", False]) == len(found["^", False]) == len(found["D", False]) == len(found["*", False]) == 1


def test_interpolations_are_told_apart(everything):
    figure = drawn(papers.interpolations, everything[0], IMAGENET)
    found = lines(figure.axes[0])
    assert {marker: len(some[0][0]) for (marker, _), some in found.items()} == {"s": 11, "o": 6, "^": 6}
    texts = [text.get_text() for axis in figure.axes if axis.get_legend() for text in axis.get_legend().get_texts()]
    assert texts == ["MBNAT (logits)", "MBNAT (all)", "MBNAT (random 50%)"]


def test_the_same_results_give_the_same_bytes(everything, tmp_path):
    found, out, done, _ = everything
    with style.applied():
        for entry in (one for one in table.figures(found, IMAGENET) if one.name in ("figure2", "examples", "gap")):
            title = next(one.title for one in done if one.name == entry.name)
            for path in style.save(entry.make().draw(False), tmp_path / entry.name, title):
                again, first = pathlib.Path(path), out / "figures" / pathlib.Path(path).name
                assert again.read_bytes() == first.read_bytes(), again.name


def test_other_data_has_its_own_figures_without_the_papers_values(tmp_path):
    for row in ("sat", "nofrost"):
        one = figured.paper(row)
        one["dataset"] |= {"source": "digits", "label_set": "10 classes"}
        made.write(tmp_path / row, one)
    done, missing = figures.draw_all(collect(tmp_path), tmp_path / "out")
    assert [one.name for one in done] == ["figure3_digits", "gap_digits"]
    axis = drawn(papers.comprehensive, collect(tmp_path), "digits", "figure3").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["Clean", "PGD-20", "Square-400"]
    assert done[0].title == "Comprehensive robustness" and "Not there: ST, DeepAugment" in done[0].caption
    assert "Not measured on any: Corrupted." in done[0].caption
    assert {one.name for one in missing} == {
        f"{name}_digits" for name in ("figure1", "figure2", "figure5", "figure6", "figure7", "strength", "examples")
    }
    assert all(" --source=digits " in one.command for one in missing if one.name.startswith("figure"))
    figure = drawn(beyond.gap, collect(tmp_path), "digits")
    assert not any(hollow for _, hollow in lines(figure.axes[0]))


def test_the_authors_adversarial_training_looks_different(tmp_path):
    for has, scale in ((False, 0.4), (True, 0.8)):
        one, _ = figured.properties("pgdat", np.random.default_rng(0), scale, sha=str(has))
        one["net"]["pgdat_clean_forward"] = has
        made.write(tmp_path / str(has), one)
    axis = drawn(papers.statistics, collect(tmp_path), IMAGENET).axes[0]
    first, second = (tuple(some.get_facecolor()[0]) for some in axis.collections)
    assert first != second and [net.label for net in lookup.nets(collect(tmp_path).nets)][1] == "PGDAT (clean forward)"


def test_a_net_with_too_few_norms_says_so(tmp_path):
    made.write(tmp_path, made.result(made.net("st"), name="properties", bn_statistics=[]))
    with pytest.raises(papers.NothingToDraw, match="fewer than 15 batch norms"):
        papers.statistics(collect(tmp_path), IMAGENET)


def test_nothing_at_all_gives_every_figure_as_missing(tmp_path):
    done, missing = figures.draw_all(collect(tmp_path), tmp_path / "out")
    assert done == [] and len(missing) == 11 and all(one.reason and one.command for one in missing)


def test_nets_that_differ_in_more_than_the_seed_are_two(tmp_path):
    for epochs in (30, 90):
        made.write(tmp_path / f"run{epochs}", figured.paper("sat", epochs=epochs))
    found = lookup.nets(collect(tmp_path).nets)
    assert [net.label for net in found] == ["SAT in run30", "SAT in run90"]


BAD = {
    "pickle": lambda good: {**good, "label": np.array([{}, {}], object)},
    "shape": lambda good: {**good, "adversarial": good["adversarial"][:, :2]},
    "kind": lambda good: {**good, "clean": good["clean"].astype(float)},
    "lacks": lambda good: {name: good[name] for name in ("clean", "label")},
    "empty": lambda good: {name: array[:0] for name, array in good.items()},
    "text": lambda good: {**good, "label": np.array(["<b>", "$x$"])},
}


@pytest.mark.parametrize("kind", [*BAD, "cut off", "large", "pipe", "lzma"])
def test_bad_images_are_a_reason_not_a_crash(kind, tmp_path, monkeypatch):
    made.write(tmp_path, figured.paper("nofrost"))
    figured.pictures(tmp_path, "paper", "pgd_20", np.random.default_rng(0), k=2, side=4)
    path = tmp_path / "evaluations" / "paper_images" / "pgd_20.npz"
    if kind in BAD:
        with np.load(path) as good:
            np.savez(path, **BAD[kind](dict(good)))
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif kind == "lzma":
        test_reading.with_a_corrupt_stream(path)
    else:
        monkeypatch.setattr(beyond, "LARGEST", 100)
    with pytest.raises(papers.NothingToDraw, match=r"the images of .*paper.json cannot be read"):
        beyond.examples(collect(tmp_path), IMAGENET)


def test_bad_arrays_are_a_reason(tmp_path):
    one, columns = figured.properties("sat", np.random.default_rng(0), 0.3)
    path = made.write(tmp_path, one, columns)
    path.with_suffix(".npz").write_bytes(b"PK no archive")
    with pytest.raises(papers.NothingToDraw, match=r"the arrays of .*properties.json cannot be read"):
        papers.properties(collect(tmp_path), IMAGENET)


def test_images_that_are_not_finite_are_drawn(tmp_path):
    figured.pictures(tmp_path, "paper", "pgd_20", np.random.default_rng(0), k=3, side=4)
    path = tmp_path / "evaluations" / "paper_images" / "pgd_20.npz"
    with np.load(path) as good:
        columns = dict(good)
    columns["adversarial"][0, 0, 0] = [np.nan, np.inf, -np.inf]
    np.savez(path, **columns)
    shown = beyond.read_examples(str(path))
    assert [(one.label, one.robust) for one in shown] == [("class 1", False), ("class 0", True), ("class 2", False)]
    assert all(((one.adversarial >= 0) & (one.adversarial <= 1)).all() for one in shown)


def test_without_matplotlib_one_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from nofrost_jax import errors\n"
        "from nofrost_jax.report import collect, figures\n"
        "with errors.exit_codes():\n"
        f"    figures.draw_all(collect.collect({str(tmp_path)!r}), {str(tmp_path / 'out')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (
        done.returncode == 2 and done.stderr == "error: figures need matplotlib; run: pip install matplotlib jinja2\n"
    )


def test_drawing_loads_neither_jax_nor_pyplot():
    code = "import sys, json, nofrost_jax.report.figures.table as t; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = json.loads(done.stdout)
    assert "matplotlib" in loaded and not {"jax", "flax", "matplotlib.pyplot", "tensorflow"} & set(loaded)
