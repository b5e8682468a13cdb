"""Times a step of every training method in paired rounds: its ratio to `at`, and the ratio that its passes predict.

    python benchmarks/methods.py                    ResNet26 with batch norm, 64 pixels, batch 16: a CPU's size
    python benchmarks/methods.py --model=resnet50 --image_size=224 --batch_size=64      a GPU's

The prediction counts a forward pass as 1, a backward pass to the image as 1 and one to the parameters, which goes
through the feature maps as well, as 2. Images of `fat` and `trades_fat` never stop early here (tau = steps), since
untrained nets are wrong at once. Prints a table and writes benchmarks/results/methods_DEVICE.json.
"""

import argparse
import json
import os
import pathlib
import sys

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks.train_step import compiled_step, paired_rounds, summary
from configs import common
from configs import methods as rows
from nofrost_jax import methods, models, parallel, validate

ROWS = {"at": "sat", "standard": "st", "fast": "fastat", "free": "freeat"}  # method: its row, if not its own name


def make_config(method, options):
    config = common.get_config()
    config.model.name = options.model
    config = rows.apply(config, ROWS.get(method, method))
    config.model.bn_group_size = "global"
    config.batch_size, config.data.image_size = options.batch_size, options.image_size
    if "tau" in config.attack:
        config.attack.tau = config.attack.steps
    return validate.resolve(config)


def predicted(method, config):
    """A step's work in forward passes of a batch."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[method].passes(config)
    if method == "free":  # one backward pass serves both
        image_backwards = 0
    return forwards + image_backwards + 2 * parameter_backwards


def measure(options):
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    batch = {
        "image": rng.integers(0, 256, shape, dtype=np.uint8),
        "label": rng.integers(0, 1000, shape[0]).astype(np.int32),
    }
    devices = parallel.Devices((jax.devices()[0],))
    configs = {method: make_config(method, options) for method in methods.NAMES}
    programs = {method: compiled_step(config, batch, devices) for method, config in configs.items()}
    seconds = paired_rounds(programs, options.rounds)
    work = {method: predicted(method, config) for method, config in configs.items()}
    return {
        "command": "python benchmarks/methods.py " + " ".join(f"--{k}={v}" for k, v in vars(options).items()),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "methods": {
            method: {
                "passes": list(methods.TABLE[method].passes(config)),
                "predicted": work[method] / work["at"],
                "measured": summary(seconds[method] / seconds["at"]),
            }
            for method, config in configs.items()
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet26", choices=[name for name in models.NAMES if "nf" not in name])
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    result = measure(options)
    print(f"{options.model}, {options.image_size} px, batch {options.batch_size}, {result['device']}; ratios to `at`")
    print("  method       passes F, Bx, B   predicted   measured (median, min to max)   measured / predicted")
    for name, row in result["methods"].items():
        measured, passes = row["measured"], ", ".join(map(str, row["passes"]))
        print(
            f"  {name:12} {passes:15}   {row['predicted']:9.3f}   {measured['median']:8.3f} "
            f"[{measured['min']:.3f}, {measured['max']:.3f}]   {measured['median'] / row['predicted']:6.2f}"
        )
    path = pathlib.Path(__file__).parent / "results" / f"methods_{result['device'].lower().replace(' ', '_')}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
