"""Times a step of every training method in paired rounds: its ratio to `at`, and the ratio that its passes predict.

    python benchmarks/methods.py                    ResNet26 with batch norm, 64 pixels, batch 16: a CPU's size
    python benchmarks/methods.py --model=resnet50 --image_size=224 --batch_size=64      a GPU's

The prediction multiplies each method's passes by what a pass costs, measured in the same round: a forward pass, a
gradient to the image, and a step of standard training, which is a forward pass, a backward pass to the parameters and
the update; the one backward pass of `free` serves both gradients and is counted once. Images of `fat` and `trades_fat`
never stop early here (tau = steps), since untrained nets are wrong at once. Prints a table and writes
benchmarks/results/methods_DEVICE.json.
"""

import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import add_net, command, parser, save_result
from benchmarks.train_step import compiled_step, paired_rounds, summary
from configs import common
from configs import methods as rows
from nofrost_jax import methods, models, parallel
from nofrost_jax.attacks.losses import cross_entropy
from nofrost_jax.classifier import Classifier, create_model
from nofrost_jax.config import resolve

ROWS = {
    "at": "sat",
    "standard": "st",
    "fast": "fastat",
    "free": "freeat",
    "augmented": "combine",
}  # method: its row, if not its own name


def make_config(method, options):
    config = common.get_config()
    config.model.name = options.model
    config = rows.apply(config, ROWS.get(method, method))
    config.model.bn_group_size = "global"
    config.batch_size, config.data.image_size = options.batch_size, options.image_size
    config.model.stage_sizes = options.stage_sizes
    if "tau" in config.attack:
        config.attack.tau = config.attack.steps
    return resolve(config)


def compiled_units(config, batch):
    """{"forward", "image gradient"} of the batch in evaluation mode, as zero-argument functions on one device."""
    model, size = create_model(config.model), config.data.image_size
    variables = jax.device_put(models.init(model, jax.random.key(0), size))
    images, labels = jnp.asarray(batch["image"], jnp.float32) / 255, jnp.asarray(batch["label"])

    def loss(images, variables):
        classifier = Classifier(variables, model, tuple(config.data.mean), tuple(config.data.std))
        return cross_entropy(classifier(images), labels).sum()

    compiled = {
        "forward": jax.jit(loss).lower(images, variables).compile(),
        "image gradient": jax.jit(jax.grad(loss)).lower(images, variables).compile(),
    }
    return {name: lambda run=run: jax.block_until_ready(run(images, variables)) for name, run in compiled.items()}


def predicted(method, config, seconds):
    """Seconds of a step by its passes, [rounds]."""
    forwards, image_backwards, parameter_backwards = methods.TABLE[method].passes(config)
    if method == "free":  # one backward pass serves both
        image_backwards = 0
    alone = forwards - image_backwards - parameter_backwards
    parts = parameter_backwards * seconds["standard"] + image_backwards * seconds["image gradient"]
    return parts + alone * seconds["forward"]


def measure(options):
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    batch = {
        "image": rng.integers(0, 256, shape, dtype=np.uint8),
        "label": rng.integers(0, 1000, shape[0]).astype(np.int32),
        **{view: rng.integers(0, 256, shape, dtype=np.uint8) for view in ("deepaugment", "tda")},
    }
    devices = parallel.Devices((jax.devices()[0],))
    configs = {method: make_config(method, options) for method in options.methods}
    programs = {method: compiled_step(config, batch, devices) for method, config in configs.items()}
    seconds = paired_rounds(programs | compiled_units(configs["at"], batch), options.rounds)
    work = {method: predicted(method, config, seconds) for method, config in configs.items()}
    return {
        "command": command("methods", options),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "methods": {
            method: {
                "passes": list(methods.TABLE[method].passes(config)),
                "predicted": summary(work[method] / work["at"]),
                "measured": summary(seconds[method] / seconds["at"]),
                "measured / predicted": summary(seconds[method] / seconds["at"] * work["at"] / work[method]),
            }
            for method, config in configs.items()
        },
    }


def main() -> None:
    options = parser(__doc__)
    add_net(options, [name for name in models.NAMES if "nf" not in name], "resnet26")
    options.add_argument("--methods", default=",".join(methods.NAMES), help="at and standard among them")
    options = options.parse_args()
    options.methods = options.methods.split(",")
    result = measure(options)
    print(f"{options.model}, {options.image_size} px, batch {options.batch_size}, {result['device']}; ratios to `at`")
    print("  method       passes F, Bx, B   predicted   measured   measured / predicted (median, min to max)")
    for name, row in result["methods"].items():
        passes, ratio = ", ".join(map(str, row["passes"])), row["measured / predicted"]
        print(
            f"  {name:12} {passes:15}   {row['predicted']['median']:9.3f}   {row['measured']['median']:8.3f}   "
            f"{ratio['median']:6.3f} [{ratio['min']:.3f}, {ratio['max']:.3f}]"
        )
    save_result(options.output, f"methods_{result['device'].lower().replace(' ', '_')}.json", result)


if __name__ == "__main__":
    main()
