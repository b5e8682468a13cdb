"""Counts what devices exchange in compiled training steps, and compares it with what `nofrost_jax.scale` predicts.

    python benchmarks/collectives.py --devices=1,2,4,8,64

Each step is compiled, not run, for so many virtual CPU devices; the program after XLA's optimizations is counted. The
net has one block of a ResNet-26 at an eighth of its width, on 8-pixel images. Writes
benchmarks/results/collectives_cpu.json.
"""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

ROWS = ("nofrost", "sat", "mbnat", "freeat", "combine")
COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\(")
WIDTHS = {"f64": 8, "f32": 4, "bf16": 2, "s32": 4, "u32": 4, "u8": 1, "pred": 1}


def config_of(row, group="global", **fields):
    from configs import common
    from configs import methods as rows
    from nofrost_jax.config import resolve

    config = rows.apply(common.get_config(), row)
    config.model.name = config.model.name.replace("50", "26")
    config.model.update({"num_classes": 5, "stem": "small", "width": 0.125, "stage_sizes": (1,)})
    config.model.bn_group_size, config.batch_size, config.data.image_size = group, 64, 8
    config.deepaugment.mode, config.attack.steps = "files", 1
    config.update_from_flattened_dict(fields)
    return resolve(config)


def lowered_step(config, count):
    """(a step on `count` devices, lowered; its net; the net's variables as shapes)."""
    import jax
    import jax.numpy as jnp

    from nofrost_jax import methods, models, optim, parallel
    from nofrost_jax.classifier import create_model
    from nofrost_jax.state import TrainState

    model, side = create_model(config.model, axis_name=parallel.AXIS), config.data.image_size
    method, devices = methods.TABLE[config.method.name], parallel.Devices(tuple(jax.devices()[:count]))
    optimizer, variables = optim.create(config, 10, method.updates(config)), models.abstract_variables(model, side)
    begin = lambda variables: TrainState.create(variables, optimizer, method.begin(config, side))  # noqa: E731
    state, shard = jax.eval_shape(begin, variables), (count, config.batch_size // count)
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices.replicated)  # noqa: E731
    names = {"image", *config.data.views}
    batch = {name: jax.ShapeDtypeStruct((*shard, side, side, 3), jnp.uint8) for name in names}
    batch |= {"label": jax.ShapeDtypeStruct(shard, jnp.int32), "is_deepaugment": jax.ShapeDtypeStruct(shard, bool)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = devices.map_step(method.make_step(model, optimizer, config, 10))
    return step.lower(jax.tree.map(place, state), batch, place(key)), model, variables


def counted(text):
    """{collective: (how many, bytes of their results)} of a program's text."""
    found = {}
    for kinds, name in COLLECTIVE.findall(text):
        size = 0
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", kinds):
            elements = 1
            for length in filter(None, shape.split(",")):
                elements *= int(length)
            size += WIDTHS[kind] * elements
        count, total = found.get(name, (0, 0))
        found[name] = count + 1, total + size
    return found


def predicted(config, variables, metrics, count):
    """{collective: bytes} by the model, less two things that XLA finds out: the biases of a block's last norm and of
    its shortcut's have one gradient, and the steps of an attack that never stops early are a constant."""
    import flax

    from nofrost_jax import costs, methods, scale

    if count == 1:
        return {}
    updates = methods.TABLE[config.method.name].updates(config)
    stored = costs.bytes_of(variables["params"]), costs.bytes_of(variables.get("batch_stats", {}))
    reduced = scale.reduced_bytes(config, scale.Net(0, 0, 0, *stored, 0), count)
    reduced += 8 * len(metrics - {"attack_steps", "gradient_norm", "parameter_norm"}) * updates
    params = flax.traverse_util.flatten_dict(variables["params"])
    reduced -= updates * sum(4 * leaf.size for path, leaf in params.items() if {"shortcut_norm", "bias"} <= set(path))
    gathered = scale.gathered_bytes(config)
    return {"all-reduce": reduced} | ({"all-gather": gathered} if gathered else {})


def main():
    from benchmarks import command, parser, save_result

    made = parser(__doc__)
    made.add_argument("--devices", default="1,2,4,8,64", help="numbers of devices, separated by commas")
    made.add_argument("--rows", default=",".join(ROWS), help="rows of configs/methods.py, separated by commas")
    options = made.parse_args()
    counts = [int(count) for count in options.devices.split(",")]
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={max(counts)}"
    os.environ |= {"JAX_PLATFORMS": "cpu", "NOFROST_CONV": "xla"}
    results = []
    for row in options.rows.split(","):
        for count in counts:
            config = config_of(row)
            lowered, _, variables = lowered_step(config, count)
            # A single device has collectives in its program, too, but nobody to exchange anything with.
            found = counted(lowered.compile().as_text()) if count > 1 else {}
            wanted = predicted(config, variables, set(lowered.out_info[1]), count)
            match = {name: size for name, (_, size) in found.items()} == wanted
            results.append({"row": row, "devices": count, "counted": found, "predicted": wanted, "equal": match})
            shown = ", ".join(f"{n} {name} of {size:,} bytes" for name, (n, size) in found.items()) or "none"
            print(
                f"{row:10} {count:3} devices: {shown}; predicted {wanted}{'' if match else '  DIFFERENT'}", flush=True
            )
    save_result(options.output, "collectives_cpu.json", {"command": command("collectives", options), "steps": results})


if __name__ == "__main__":
    main()
