"""Times the PGD-10 adversarial training step in paired rounds: against its own parts, and against XLA's convolutions.

    python benchmarks/train_step.py                      NF-ResNet26, 64 pixels, batch 16: a CPU's size
    python benchmarks/train_step.py --peer               against eager PyTorch with timm's net, NCHW and channels_last
    python benchmarks/train_step.py --model=nf_resnet50 --image_size=224 --batch_size=32 --dtype=bfloat16      a GPU's

Prints a table of ratios and writes them to benchmarks/results/, with the device's name. Every round times each program
once, one after the other, so that a noisy machine disturbs all alike; figures are medians over the rounds.
"""

import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import add_net, command, parser, save_result, torch_train, versions
from configs import nofrost_r26
from nofrost_jax import keys, methods, models, optim, parallel
from nofrost_jax.attacks.losses import cross_entropy
from nofrost_jax.classifier import Classifier, create_model
from nofrost_jax.config import resolve
from nofrost_jax.methods.base import smoothed_cross_entropy, train_forward
from nofrost_jax.state import TrainState


def make_config(options):
    config = nofrost_r26.get_config()
    config.model.update({"name": options.model, "dtype": options.dtype, "bn_group_size": "global"})
    config.batch_size, config.data.image_size = options.batch_size, options.image_size
    config.model.stage_sizes = getattr(options, "stage_sizes", ())
    return resolve(config)


def random_batch(config):
    """Random uint8 images and labels of a config's sizes, on the host."""
    rng = np.random.default_rng(0)
    shape = (config.batch_size, config.data.image_size, config.data.image_size, 3)
    labels = rng.integers(0, config.model.num_classes, shape[0]).astype(np.int32)
    return {"image": rng.integers(0, 256, shape, dtype=np.uint8), "label": labels}


def first_variables(model, size):
    """Fresh variables, made on the CPU: an accelerator's compiler is slow at the initializers' many small programs."""
    with jax.default_device(jax.devices("cpu")[0]):
        return models.init(model, jax.random.key(0), size)


def lowered_step(config, batch, devices):
    """(one training step, lowered but not compiled; its arguments: state, batch, key)."""
    model = create_model(config.model, axis_name=parallel.AXIS)
    method, size = methods.TABLE[config.method.name], config.data.image_size
    optimizer = optim.create(config, 5004, method.updates(config))
    variables = first_variables(model, size)
    state = devices.replicate(TrainState.create(variables, optimizer, method.begin(config, size)))
    arguments = state, devices.shard(batch), devices.replicate(jax.random.key(1))
    step = devices.map_step(method.make_step(model, optimizer, config, 5004))
    return step.lower(*arguments), arguments


def stepping(step, state, batch, key):
    """A zero-argument function that runs one training step and waits for it; its metrics. State is carried over, as in
    training."""
    carried = [state]

    def run():
        carried[0], metrics = step(carried[0], batch, key)
        return jax.block_until_ready((carried[0], metrics))[1]

    return run


def compiled_step(config, batch, devices):
    """`stepping` of a config's training step."""
    lowered, arguments = lowered_step(config, batch, devices)
    return stepping(lowered.compile(), *arguments)


def compiled_parts(config, batch):
    """(input gradient of B images, parameter gradient of 2B images), as zero-argument functions on one device."""
    model = create_model(config.model)
    variables = jax.device_put(first_variables(model, config.data.image_size), jax.devices()[0])
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    images, labels = jnp.asarray(batch["image"], jnp.float32) / 255, jnp.asarray(batch["label"])
    twice, twice_labels = jnp.concatenate([images, images]), jnp.concatenate([labels, labels])
    image_keys = keys.per_image(jax.random.key(2), jnp.arange(len(twice)))

    def to_images(variables, images):
        return jax.grad(lambda x: cross_entropy(Classifier(variables, model, mean, std)(x), labels).sum())(images)

    def to_parameters(params, images):
        def loss(params):
            logits, _ = train_forward(model, config, params, {}, images, image_keys)
            return smoothed_cross_entropy(logits, twice_labels, config.label_smoothing)

        return jax.grad(loss)(params)

    input_gradient = jax.jit(to_images).lower(variables, images).compile()
    parameter_gradient = jax.jit(to_parameters).lower(variables["params"], twice).compile()
    return (
        lambda: jax.block_until_ready(input_gradient(variables, images)),
        lambda: jax.block_until_ready(parameter_gradient(variables["params"], twice)),
    )


def paired_rounds(programs, rounds):
    """{name: seconds [rounds]}; each program has one untimed call first. A program of another process returns its own
    seconds."""
    for run in programs.values():
        run()
    seconds = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            start = time.perf_counter()
            own = run()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def measure_peer(options):
    """The step and PyTorch's, in paired rounds."""
    config = make_config(options)
    programs = {"step": compiled_step(config, random_batch(config), parallel.Devices((jax.devices()[0],)))}
    workers = {f"PyTorch {layout}": torch_train.worker(options, layout) for layout in torch_train.LAYOUTS}
    seconds = paired_rounds(programs | {name: run for name, (_, run) in workers.items()}, options.rounds)
    for process, _ in workers.values():
        process.communicate()
    return figures(options, seconds, {f"{name} / ours": seconds[name] / seconds["step"] for name in workers})


def measure(options):
    config = make_config(options)
    batch = random_batch(config)
    devices = parallel.Devices((jax.devices()[0],))
    programs = {"step": compiled_step(config, batch, devices)}
    programs["input gradient"], programs["parameter gradient"] = compiled_parts(config, batch)
    if jax.default_backend() == "cpu":
        os.environ["NOFROST_CONV"] = "xla"
        programs["step with XLA convolutions"] = compiled_step(config, batch, devices)
        del os.environ["NOFROST_CONV"]
    seconds = paired_rounds(programs, options.rounds)
    parts = config.attack.steps * seconds["input gradient"] + seconds["parameter gradient"]
    ratios = {"step / its parts": seconds["step"] / parts}
    if "step with XLA convolutions" in seconds:
        ratios["XLA convolutions / ours"] = seconds["step with XLA convolutions"] / seconds["step"]
    return figures(options, seconds, ratios)


def figures(options, seconds, ratios):
    return {
        "command": command("train_step", options),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "versions": versions(("jax", "jaxlib", "torch", "timm") if options.peer else ("jax", "jaxlib")),
        "images_per_second": options.batch_size / float(np.median(seconds["step"])),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratios": {name: summary(values) for name, values in ratios.items()},
    }


def summary(values):
    return {
        "median": float(np.median(values)),
        "min": float(values.min()),
        "max": float(values.max()),
        "n": len(values),
    }


def main() -> None:
    options = parser(__doc__)
    add_net(options, models.NAMES, "nf_resnet26")
    options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options.add_argument("--peer", action="store_true", help="against PyTorch; needs requirements-parity.txt")
    options = options.parse_args()
    result = measure_peer(options) if options.peer else measure(options)
    print(f"{options.model}, {options.image_size} px, batch {options.batch_size}, {options.dtype}, {result['device']}")
    for name, row in {**result["seconds"], **result["ratios"]}.items():
        unit = " s" if name in result["seconds"] else " x"
        print(f"  {name:30} {row['median']:8.4f}{unit}   [{row['min']:.4f}, {row['max']:.4f}]  n = {row['n']}")
    device = result["device"].lower().replace(" ", "_")
    name = f"{'peer' if options.peer else 'step'}_{options.model}_{options.image_size}_{options.dtype}_{device}"
    save_result(options.output, f"train_{name}.json", result)


if __name__ == "__main__":
    main()
