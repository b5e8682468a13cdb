"""The table of all nets: who measured what stands under a net, and by which names the page's filter knows nets."""

import csv
import io

from nofrost_jax.report import overview, page, text
from nofrost_jax.report.collect import collect
from tests.report import made


def test_the_public_measurement_stands_under_the_released_net_alone(tmp_path):
    nets = {"best_RA.pth": made.net(depth=50), "best_RA_26.pth": made.net(), "other.pth": made.net(depth=50)}
    for file, net in nets.items():
        for number, source in enumerate(("tfds:imagenet2012", "digits")):
            one = made.result(net, 700, [made.attack("apgd_ce_20", 121)], sha=f"{file}{source}", source=source)
            one["checkpoint"]["file"] = file
            made.write(tmp_path / f"{file}{number}", one)
    imagenet, digits = overview.tables(collect(tmp_path))
    shown = text.exhibit([imagenet])
    place, lines = shown.index("| *public measurement* |"), shown.splitlines()
    head, row = (
        next(line for line in lines if line.startswith(start)).split(" | ") for start in ("| Method", "| *pub")
    )
    values = {title.strip("| "): value.strip("*| ") for title, value in zip(head, row, strict=True)}
    assert (values["APGD-CE"], values["AA (standard)"], values["apgd\\_ce\\_100"]) == ("12.03", "1.28", "5.29")
    assert values["Clean"] == "" and shown.rindex("\n", 0, place - 1) == shown.index("\n| best\\_RA.pth, ResNet-50")
    assert shown.count("*public measurement*") == 1 and "NF-ResNet-50 (2022-07-21), not of the paper" in shown
    assert "public" not in text.exhibit([digits])
    found = csv.DictReader(io.StringIO(text.sheet([imagenet])))
    assert {line["paper"] for line in found} == {""}  # it is not the paper's


def test_the_page_says_whose_the_public_measurement_is(tmp_path):
    released = made.result(made.net(depth=50), attacks=[made.attack("apgd_ce_20", 121)])
    released["checkpoint"]["file"] = "best_RA.pth"
    made.write(tmp_path / "runs", released)
    found = collect(tmp_path)
    shown = page.render(found, overview.tables(found), [], [], str(tmp_path))
    assert "public measurement 12.03" in shown and "public measurement: issue 2 of" in shown
    assert "paper 12.03" not in shown


def test_the_filter_knows_a_large_net_from_a_miniature(tmp_path):
    sizes = {"wide_resnet50_2": {}, "resnet26": {}, "small": {"width": 0.25}}
    for name, fields in sizes.items():
        net = made.net("sat", **{"model": "resnet26" if name == "small" else name} | fields)
        made.write(tmp_path / name, made.result(net, sha=name))
    (one,) = overview.tables(collect(tmp_path))
    assert {page._net(line) for line in one.lines} == {"wide_resnet50_2", "ResNet-26", "small"}
