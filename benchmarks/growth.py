"""How the time of a PGD training step grows with the batch, the attack's steps, the images' size and the devices.

    python benchmarks/growth.py                      NF-ResNet26, 64 pixels, batch 16, 10 steps: a CPU's size
    python benchmarks/growth.py --model=nf_resnet50 --image_size=224 --batch_size=64      a GPU's

Changes one of the four at a time, each round times every program once, and the table has medians of the ratio to the
step that is not changed. Several devices share the same global batch. A CPU is shown to jax as four devices, which
share its cores: there the row of devices is what the exchange and smaller shares cost.
"""

import dataclasses
import os
import pathlib
import sys

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import add_net, command, parser, save_result, versions
from benchmarks.train_step import compiled_step, make_config, paired_rounds, random_batch, summary
from nofrost_jax import models, parallel

FACTORS = {"batch": (0.25, 0.5, 2, 4), "steps": (0.1, 0.5, 2), "size": (0.5, 1.5, 2), "devices": (2, 4)}


@dataclasses.dataclass(frozen=True)
class Step:
    """One program: batch and size of its images, steps of its attack, and its devices."""

    batch: int
    steps: int
    size: int
    devices: int = 1

    def program(self, options):
        """A zero-argument function that runs it once."""
        config = make_config(options)
        config.batch_size, config.attack.steps, config.data.image_size = self.batch, self.steps, self.size
        devices = parallel.Devices(tuple(jax.local_devices()[: self.devices]))
        return compiled_step(config, random_batch(config), devices)


def changed(base: Step, fields: list[str]) -> dict[str, Step]:
    """{"batch 32": the step with that, ...} for each of `fields`, where there are as many devices and images."""
    found = {"unchanged": base}
    for field in fields:
        for factor in FACTORS[field]:
            step = dataclasses.replace(base, **{field: max(1, round(getattr(base, field) * factor))})
            if step.devices <= jax.local_device_count() and step.batch % step.devices == 0:
                found[f"{field} {getattr(step, field)}"] = step
    return found


def measure(options, base):
    steps = changed(base, options.fields.split(","))
    programs = {}
    for number, (name, step) in enumerate(steps.items(), 1):
        print(f"compiling {number}/{len(steps)}: {name}", flush=True)
        programs[name] = step.program(options)
    seconds = paired_rounds(programs, options.rounds)
    return {
        "command": command("growth", options),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "versions": versions(("jax", "jaxlib")),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ratios": {name: summary(values / seconds["unchanged"]) for name, values in seconds.items()},
    }


def main() -> None:
    line = parser(__doc__)
    add_net(line, models.NAMES, "nf_resnet26")
    line.add_argument("--steps", type=int, default=10, help="of the attack")
    line.add_argument("--fields", default=",".join(FACTORS), help="what to change, with commas between")
    line.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = line.parse_args()
    if unknown := set(options.fields.split(",")) - set(FACTORS):
        line.error(f"--fields: {', '.join(sorted(unknown))} unknown; choose among {', '.join(FACTORS)}")
    if "devices" in options.fields:  # before jax starts
        jax.config.update("jax_num_cpu_devices", max(FACTORS["devices"]))
    base = Step(options.batch_size, options.steps, options.image_size)
    result = measure(options, base)
    print(
        f"{options.model}, {options.image_size} px, batch {options.batch_size}, PGD-{options.steps}, {result['device']}"
    )
    for name, row in result["ratios"].items():
        print(f"  {name:12} {row['median']:6.2f}   [{row['min']:.2f}, {row['max']:.2f}]  n = {row['n']}")
    device = result["device"].lower().replace(" ", "_")
    save_result(options.output, f"growth_{options.model}_{base.size}_{options.dtype}_{device}.json", result)


if __name__ == "__main__":
    main()
