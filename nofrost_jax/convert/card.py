"""The model card of an export: what the net is, where it is from, what was measured of it, and the limits of that."""

import os
from typing import Any

from nofrost_jax import files
from nofrost_jax.convert import resolved
from nofrost_jax.report.exhibits import PROTOCOLS

_LIMITS = """## Limits

* An accuracy under attack is an upper bound of the robust accuracy: the accuracy under the attacks that were tried, in
  one ball, on the images of one data set. It says nothing of other perturbations, larger ones, or other images.
* Few steps of PGD or APGD flatter a net. The field reports `aa_standard` (AutoAttack: Croce and Hein, 2020).
* `as uint8` counts the attacked images as stored pictures, rounded to 8 bits.
"""


def write(net: Any) -> str:
    """The card, Markdown with the hub's header, of a `sources.Net`. Raises UserError if its config is incomplete."""
    config, about = net.config, net.provenance
    resolved.check(config, resolved.CARD, "its config.json")
    parts = [_HEADER, f"# {_title(config['model'])}\n", _is(net), _from(config, about), _USE]
    parts.append(_table(net.folder, about["params_sha256"]))
    return "\n".join([*parts, _LIMITS])


_HEADER = """---
library_name: nofrost_jax
pipeline_tag: image-classification
tags:
- jax
- image-classification
- adversarial-robustness
---
"""
_USE = """## Use

```python
import nofrost_jax

classifier = nofrost_jax.load("FOLDER")  # this folder, or hf://OWNER/NAME
logits = classifier(images)  # images [N, H, W, 3]: uint8, or float in [0, 1]
```
"""


def _title(model: dict[str, Any]) -> str:
    norm = "" if model["name"].startswith("nf_") else f", norm {model['norm']}"
    return f"{model['name']}{norm}, {model['num_classes']} classes"


def _is(net: Any) -> str:
    data, model = net.config["data"], net.config["model"]
    sizes = f", blocks {'-'.join(map(str, model['stage_sizes']))}" * bool(model["stage_sizes"])
    resize = f"resized to {data['eval_resize']} on the short side, then " * bool(data["eval_resize"])
    mean, std = (", ".join(f"{value:g}" for value in data[name]) for name in ("mean", "std"))
    return (
        f"An image classifier of {net.parameter_count:,} float32 parameters: width {model['width']:g}{sizes}, stem "
        f"{model['stem']}. Images are {resize}cropped to {data['image_size']} pixels and given as [0, 1]; mean {mean} "
        f"and std {std} are inside the classifier.\n"
    )


def _from(config: dict[str, Any], about: dict[str, Any]) -> str:
    digest = f"SHA-256 of the variables: `{about['params_sha256']}`.\n"
    if "file_sha256" in about:
        file, file_digest = _plain(about.get("file", "a file")), _plain(about["file_sha256"])
        return (
            f"## Where it is from\n\nConverted from `{file}`, SHA-256 `{file_digest}`. "
            "The file does not say how the net was trained: that part of `config.json` means nothing. Mean and std are "
            f"{_plain(about.get('normalization', 'not said'))}. {digest}"
        )
    method, attack = config["method"], config["attack"]
    step = f" Step {about['step']}." if about.get("step") is not None else ""
    return (
        f"## Where it is from\n\nTrained by nofrost_jax: method `{method['name']}` with adversarial weight "
        f"{method['adversarial_weight']:g}, recipe `{config['recipe']}`, {config['epochs']} epochs of "
        f"{_plain(config['data']['source'])} in batches of {config['batch_size']}, seed {config['seed']}. Its training "
        f"attack, if the method has one: {attack['name']}, {attack['steps']} steps, eps {attack['epsilon_255']:g}/255 "
        f"in {attack['norm']}. `config.json` has the rest.{step} {digest}"
    )


def _table(folder: str, digest: str) -> str:
    """The accuracies in FOLDER/evaluations of these variables, a row for each attack of each result."""
    rows, done, others, odd = [], set(), 0, []
    place = os.path.join(folder, "evaluations")
    names = files.names(place) if folder and files.is_folder(place) else []
    for name in sorted(name.removesuffix(".json") for name in names if name.endswith(".json")):
        try:
            result = files.read_json(os.path.join(place, f"{name}.json"))
            if result["checkpoint"]["params_sha256"] != digest:
                others += 1
                continue
            found, attacks = _rows(result), {entry["attack"] for entry in result["attacks"]}
        except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # damaged, or older
            odd.append(_plain(f"{name}.json"))
        else:
            rows, done = rows + found, done | attacks
    rows += [("", f"`{attack}`", "", "not run", "", "", "") for attack in PROTOCOLS if attack not in done]
    head = ("images", "attack", "eps / 255", "accuracy", "95 % interval", "as uint8", "flags")
    lines = ["## Measured\n", *(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)), ""]
    lines.append("To measure it again: `python main.py --mode=evaluate --workdir=FOLDER`.\n")
    if others:
        lines.append(f"Results of other variables are left out: {others}.\n")
    if odd:
        lines.append(f"Results that cannot be read, or lack values, are left out: {', '.join(odd)}.\n")
    return "\n".join(lines)


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    data, clean = result["dataset"], result["clean"]
    part = f" of {data['of']}" * (data["n"] < data["of"])
    branches = "".join(f", {name} {value}" for name, value in result.get("mbn", {}).items())  # of a mixture-BN net
    images = _plain(f"{data['source'].partition(':')[0]} {data['split']}, {data['n']}{part}{branches}")
    first = images, "none (clean)", "", f"{clean['accuracy']:.2%}", _interval(clean["ci95"]), "", ""
    rows: list[tuple[str, ...]] = [first]
    for entry in result["attacks"]:
        ball = f"{entry['epsilon_255']:g}{' in l2' * (entry['norm'] == 'l2')}"
        steps = f", {entry['steps']} steps" * (entry["steps"] is not None and "members" not in entry)
        figures = f"{entry['robust_accuracy']:.2%}", _interval(entry["ci95"]), f"{entry['uint8_accuracy']:.2%}"
        rows.append((images, f"`{_plain(entry['name'])}`{steps}", ball, *figures, _plain(", ".join(entry["flags"]))))
    return rows


def _interval(ci95: list[float]) -> str:
    return f"{ci95[0]:.1%} to {ci95[1]:.1%}"


def _plain(text: str) -> str:
    """A text that can neither end a cell of a table nor begin HTML."""
    return " ".join(str(text).replace("|", "/").replace("<", "(").replace(">", ")").replace("`", "'").split())
