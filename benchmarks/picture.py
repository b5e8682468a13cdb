"""The picture in README.md: the committed digits checkpoint under attack, and its accuracy as the attack grows.

    python benchmarks/picture.py

Writes benchmarks/results/picture_digits.json, and docs/digits.png from it. Needs matplotlib.
"""

import pathlib
import sys

import jax
import numpy as np
from sklearn.datasets import load_digits

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import nofrost_jax
from benchmarks import ROOT, parser, save_result
from nofrost_jax import keys
from nofrost_jax.data import digits

TRAINED = 38.25  # radius of the training
PROTOCOLS = {"pgd": "PGD", "aa_fast_20": "aa_fast_20 (the paper's)", "aa_standard": "aa_standard (AutoAttack)"}
RADII = (0.0, 12.75, 25.5, TRAINED, 51.0, 63.75)
COLOURS = ("#56B4E9", "#E69F00", "#0072B2")  # of Okabe and Ito's palette, distinct for colour-blind readers
RIGHT, WRONG = "#009E73", "#D55E00"


def test_images():
    """The 360 digits for evaluation: uint8 [N, 8, 8, 3], int [N]."""
    found = load_digits()
    chosen = digits.eval_mask(found.target)
    grey = np.rint(found.images[chosen] * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), found.target[chosen]


def measure(classifier, images, labels):
    """{protocol: [{"epsilon_255", "robust_accuracy", "ci95"}, ...]} on uint8 images [N, H, W, 3], labels int [N]."""
    curves = {}
    for protocol in PROTOCOLS:
        curves[protocol] = []
        for radius in RADII:
            found = nofrost_jax.autoattack(classifier, images, labels, radius / 255, protocol)["attacks"][0]
            entry = {"epsilon_255": radius} | {name: found[name] for name in ("robust_accuracy", "ci95", "n")}
            curves[protocol].append(entry)
    return curves


def draw(classifier, images, labels, curves, path):
    """Digits before and after PGD, and the curves, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    clean = (images / 255).astype(np.float32)
    attack = nofrost_jax.attacks.PGD(epsilon=TRAINED / 255, steps=20, step_rule="madry")
    image_keys = keys.per_image(jax.random.key(0), np.arange(len(images)))
    adversarial = jax.jit(attack)(classifier, clean, labels, image_keys).images
    before, after = (np.asarray(classifier.predict(some)) for some in (clean, adversarial))
    fooled, withstood = (np.flatnonzero((before == labels) & ((after == labels) == stands)) for stands in (False, True))
    shown = [*withstood[:3], *fooled[:2]]
    figure = plt.figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    rows = zip(
        left.subplots(2, len(shown)), ("clean", "adversarial"), (clean, adversarial), (before, after), strict=True
    )
    for axes, name, pictures, predicted in rows:
        axes[0].set_ylabel(name)
        for axis, i in zip(axes, shown, strict=True):
            axis.imshow(pictures[i], vmin=0, vmax=1)
            axis.set_title(f"→ {predicted[i]}", color=RIGHT if predicted[i] == labels[i] else WRONG, fontsize=11)
            axis.set(xticks=[], yticks=[])
    axis = right.subplots()
    for (protocol, label), colour in zip(PROTOCOLS.items(), COLOURS, strict=True):
        radii, accuracy, interval = (
            np.array([point[name] for point in curves[protocol]]) for name in ("epsilon_255", "robust_accuracy", "ci95")
        )
        axis.plot(radii, 100 * accuracy, color=colour, marker="o", markersize=4, label=label)
        axis.fill_between(radii, *(100 * interval.T), color=colour, alpha=0.15, linewidth=0)
    axis.axvline(TRAINED, color="0.5", linestyle=":", linewidth=1)
    axis.text(TRAINED + 1, 99, "trained on", color="0.4", va="top", fontsize=9)
    axis.set(xlabel="attack radius ε (pixel values, of 255)", ylabel="accuracy, %", ylim=(0, 102), xticks=RADII)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False, loc="lower left", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=160)
    print(f"written: {path}", flush=True)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=360, help="number of images, for a trial")
    options.add_argument("--picture", default=str(ROOT / "docs" / "digits.png"), help="where to draw it")
    options = options.parse_args()
    classifier = nofrost_jax.load(ROOT / "notebooks" / "digits_nofrost")
    images, labels = (array[: options.images] for array in test_images())
    curves = measure(classifier, images, labels)
    save_result(options.output, "picture_digits.json", {"curves": curves})
    draw(classifier, images, labels, curves, options.picture)


if __name__ == "__main__":
    main()
