"""Which images a result is of tells nets apart, picks the radius, and says whether a property is of all of them."""

import pytest

from nofrost_jax.report.collect import collect, value
from tests.report import made


@pytest.mark.parametrize(("field", "new"), [("mean", [0, 0, 0]), ("std", [1, 1, 1]), ("crop", "none, 8")])
def test_the_same_parameters_behind_another_preparation_are_another_net(tmp_path, field, new):
    one = made.result(made.net())
    one["dataset"]["crop"] = "resize 256, centre 224"
    for name in ("paper", "shift"):
        made.write(tmp_path, one | {"name": name})
    assert len(collect(tmp_path).nets) == 1
    made.write(tmp_path, one | {"name": "other", "dataset": one["dataset"] | {field: new}})
    assert len(collect(tmp_path).nets) == 2


def test_a_result_of_other_sets_alone_is_of_the_net_whose_crop_it_does_not_know(tmp_path):
    one = made.result(made.net())
    for name, crop in {"a_shift": "", "paper": "resize 256, centre 224"}.items():
        made.write(tmp_path, one | {"name": name, "dataset": one["dataset"] | {"crop": crop}})
    assert len(collect(tmp_path).nets) == 1


def test_off_imagenet_radii_of_single_tables_stand_where_there_are_no_others(tmp_path):
    for epsilon in (4.0, 2.0):
        made.write(tmp_path / f"{epsilon}", made.result(made.net(epsilon_255=epsilon), source="digits"))
    assert [net.epsilon_255 for net in collect(tmp_path).of("digits", "nofrost", 26)] == [4.0]  # of equally many
    made.write(tmp_path / "8", made.result(made.net(), source="digits"))
    assert [net.epsilon_255 for net in collect(tmp_path).of("digits", "nofrost", 26)] == [8.0]


@pytest.mark.parametrize(
    ("choice", "flags"),
    [("the first 10 classes", ()), ("evenly spread, the first 10 classes", ("partial",)), (None, ("partial",))],
)
def test_properties_are_partial_unless_of_all_images_of_the_first_classes(tmp_path, choice, flags):
    mean = {"mean": 0.3, "ci95": [0.2, 0.4], "sd": 1.0, "n": 10}
    one = made.result(made.net(), properties={"margin": mean}, flags=["partial"])
    made.write(tmp_path, one | {"dataset": one["dataset"] | {"choice": choice}})
    (net,) = collect(tmp_path).nets
    assert value(net, "properties.margin").flags == flags and value(net, "clean").flags == ("partial",)
