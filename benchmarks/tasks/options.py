"""The training step's attack, computed in other ways: NF-ResNet50, 224 pixels, PGD-10, bfloat16, batch 128.

    python -m benchmarks.tasks.options --seconds=130 --output=FILE

Of each of `benchmarks.options.OPTIONS`, in their order: seconds of the attack alone, their ratio to the package's own
way, and beside it the ratio that `gpu_program.py` predicted for an H100. Before them the input gradient at kernels that
are standardized beforehand, of which the attack should take ten times: "over_parts" of "as it is".
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import options, train_step
from benchmarks.tasks import common, rows
from benchmarks.tasks.train_step import Row, take_all_memory, timed_compilation
from nofrost_jax import keys
from nofrost_jax.classifier import create_model

GRADIENT, OWN = "input gradient", "as it is"


@dataclasses.dataclass(frozen=True)
class OptionRow:
    """What is measured of a row of `train_step`: GRADIENT, or one of options.OPTIONS."""

    name: str
    row: Row

    program = "attack"


def main() -> None:
    take_all_memory()
    task = common.start("options", __doc__)
    if rows.work_through(task, work_of(task.rehearse)):
        task.finish(headline(task.figures))


def work_of(rehearse):
    """{name: (figures, OptionRow)}; a rehearsal has the first two and one option."""
    row = Row("nf_resnet50", "bfloat16", 4 if rehearse else 128, rehearse)
    names = [GRADIENT, *options.OPTIONS]
    return {name: (figures, OptionRow(name, row)) for name in (names[:3] if rehearse else names)}


def figures(task, wanted):
    config = wanted.row.config()
    with options.OPTIONS.get(wanted.name, options.Option()).applied():
        lowered, arguments = lowered_program(wanted.name, config)
    flags = dict(options.OPTIONS[wanted.name].flags) if wanted.name in options.OPTIONS else {}
    compiled, compiling = timed_compilation(lowered, flags)
    seconds = rows.seconds_of(lambda: compiled(*arguments), wanted.row.rehearse)
    median = float(np.median(seconds))
    found = {"seconds": train_step.summary(np.array(seconds)), "compile_seconds": compiling}
    parts, own = (task.figures.get(name, {}).get("seconds", {}).get("median") for name in (GRADIENT, OWN))
    if wanted.name == OWN and parts:
        found["over_parts"] = median / (config.attack.steps * parts)
    elif wanted.name != GRADIENT and own:
        found |= {"over_own_way": median / own, "predicted_over_own_way": predicted(wanted.name)}
    return found


def lowered_program(name, config):
    """(a program, lowered; its arguments on the device)."""
    model = create_model(config.model)
    variables = jax.device_put(train_step.first_variables(model, config.data.image_size), jax.devices()[0])
    params, stats = variables["params"], variables.get("batch_stats", {})
    images, labels = map(jnp.asarray, train_step.random_batch(config).values())
    if name == GRADIENT:
        arguments = jax.jit(model.frozen)(params), stats, images.astype(jnp.float32) / 255, labels
        return jax.jit(options.gradient_program(config)).lower(*arguments), arguments
    arguments = params, stats, images, labels, keys.per_image(jax.random.key(1), jnp.arange(len(images)))
    return jax.jit(options.attack_program(config)).lower(*arguments), arguments


def predicted(name):
    """The ratio of the bounds on an H100; None of what was not predicted."""
    own, other = (common.predicted_seconds(f"nf_resnet50 bfloat16 128 {which}") for which in (OWN, name))
    return other / own if own and other else None


def headline(found):
    """The attack over its parts, and the best of the others."""
    others = {name: row["over_own_way"] for name, row in found.items() if "over_own_way" in row}
    said = [f"{name}: {others[name]:.3f} of the time" for name in sorted(others, key=others.get)[:1]]
    parts = found[OWN].get("over_parts")
    said += [f"attack / its parts {parts:.3f}"] if parts else []
    return "; ".join(said + rows.shortfalls(found))


if __name__ == "__main__":
    main()
