"""Speed of the PGD-10 adversarial training step: NF-ResNet50 (NoFrost) and ResNet50 with batch norm (SAT), 224 pixels.

    python -m benchmarks.tasks.train_step --seconds=120 --output=FILE

For each net, dtype and batch size, the most important first: clean images a second, and what `gpu_program.py` says is
the most on an H100, the program's memory, the
operations a second of its passes (`costs.step_flops`) and their share of the
device's measured matrix rate in that dtype, seconds to trace and to compile it. Later, at batch 128, also its ratio to
its own parts, ten input gradients and one parameter gradient of 2 x 128 images, and seconds to compile what the
persistent cache has (JAX_COMPILATION_CACHE_DIR). Batch statistics are the whole batch's. float32 is at jax's default
precision, TF32 on recent NVIDIA GPUs. Too little memory is a result and is recorded as one.
"""

import dataclasses
import itertools
import os
import time

import jax
import numpy as np

from benchmarks import train_step
from benchmarks.tasks import ceiling, common, rows
from nofrost_jax import costs, models, parallel
from nofrost_jax.classifier import create_model

NETS, DTYPES, BATCHES = ("nf_resnet50", "resnet50"), ("bfloat16", "float32"), (128, 256, 64)
CACHE_HITS = []


@dataclasses.dataclass(frozen=True)
class Row:
    """A net in a dtype at a batch size; in rehearsal a tiny one."""

    model: str
    dtype: str
    batch_size: int
    rehearse: bool = False

    @property
    def name(self):
        return f"{self.model} {self.dtype} {self.batch_size}"

    @property
    def program(self):
        return self.dtype

    @property
    def image_size(self):
        return 16 if self.rehearse else 224

    def config(self):
        """The training config."""
        config = train_step.make_config(self)
        if self.rehearse:
            config.model.update({"stage_sizes": (1,), "width": 0.125, "num_classes": 10, "stem": "small"})
        return config


def main() -> None:
    take_all_memory()
    task = common.start("train_step", __doc__)
    jax.monitoring.register_event_listener(count_cache_hits)
    if rows.work_through(task, work_of(task.rehearse)):
        task.finish(headline(task.figures))


def take_all_memory():
    """Lets jax, when it starts, take nearly all of a GPU's memory at once; it refuses to have the share given twice."""
    os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)
    os.environ.update({"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_CLIENT_MEM_FRACTION": "0.92"})


def work_of(rehearse):
    """{name of a figure: (how it is measured, row)}, the most wanted first: bfloat16 before float32, all of the first
    batch size before the others."""
    all_rows = [Row(net, dtype, batch) for batch, dtype, net in itertools.product(BATCHES, DTYPES, NETS)]
    if rehearse:
        all_rows = [Row(net, dtype, 4, rehearse=True) for net, dtype in zip(NETS, DTYPES, strict=True)]
    closely = [row for row in all_rows if row.batch_size == all_rows[0].batch_size]
    first = {row.name: (step_figures, row) for row in closely}
    parts = {f"{row.name} parts": (parts_figures, row) for row in closely}
    return first | parts | {row.name: (step_figures, row) for row in all_rows}


def step_figures(task, row):
    """What is said of a row."""
    config, known = row.config(), len(CACHE_HITS)
    lowered, arguments, tracing = timed_lowering(config)
    compiled, compiling = timed_compilation(lowered)
    found = len(CACHE_HITS) > known
    run = train_step.stepping(compiled, *arguments)
    del arguments  # the state is carried, and donated, by `run`
    metrics = run()
    seconds = rows.seconds_of(run, row.rehearse)
    median = float(np.median(seconds))
    operations = costs.step_flops(config, forward_flops(config)) / 1e12
    return {
        "model": row.model,
        "dtype": row.dtype,
        "batch_size": row.batch_size,
        "images_per_second": row.batch_size / median,
        "bound_on_h100": (bound := common.predicted_seconds(f"{row.name} step")) and row.batch_size / bound,
        "seconds": train_step.summary(np.array(seconds)),
        "memory": memory(compiled),
        "tera_operations": operations,
        "tera_operations_per_second": operations / median,
        "share_of_matrix_rate": operations / median / matrix_rate(task, row.dtype),
        "trace_seconds": tracing,
        "compile_seconds": compiling,
        "compilation": "cached" if found else "cold",
        "loss": float(metrics["loss"][0]),
        "matmul_precision": config.matmul_precision,
        "jax_default_matmul_precision": jax.config.jax_default_matmul_precision or "default",
    }


def timed_lowering(config):
    """(the lowered step, its arguments, seconds of making both)."""
    begun = time.perf_counter()
    devices = parallel.Devices((jax.devices()[0],))
    lowered, arguments = train_step.lowered_step(config, train_step.random_batch(config), devices)
    return lowered, arguments, time.perf_counter() - begun


def timed_compilation(lowered, flags=None):
    """(the compiled program, seconds). flags: of XLA, for this program."""
    begun = time.perf_counter()
    return lowered.compile(flags or None), time.perf_counter() - begun


def count_cache_hits(event, **_):
    if event == "/jax/compilation_cache/cache_hits":
        CACHE_HITS.append(event)


def parts_figures(task, row):
    """Seconds of the step's parts, the step's ratio to ten input gradients and one parameter gradient, and seconds to
    compile the step again; None where the cache did not have it."""
    config = row.config()
    programs = train_step.compiled_parts(config, train_step.random_batch(config))
    to_images, to_parameters = (float(np.median(rows.seconds_of(run, row.rehearse))) for run in programs)
    figures = {"input_gradient_seconds": to_images, "parameter_gradient_seconds": to_parameters}
    step = task.figures.get(row.name, {})
    if "seconds" in step:
        parts = config.attack.steps * to_images + to_parameters
        figures["step_over_parts"] = step["seconds"]["median"] / parts
    known, cached = len(CACHE_HITS), timed_compilation(timed_lowering(config)[0])[1]
    return figures | {"cached_compile_seconds": cached if len(CACHE_HITS) > known else None}


def forward_flops(config):
    """Operations of one image's forward pass."""
    model, size = create_model(config.model), config.data.image_size
    variables = models.abstract_variables(model, size)
    with costs.xla_convolutions():
        return costs.forward_flops(model, variables, size)


def matrix_rate(task, dtype):
    """10^12 operations/s of a large matrix product in a dtype, measured once."""
    name = f"matrix rate {dtype}"
    if name not in task.figures:
        size, seconds = (256, 0.1) if task.rehearse else (8192, 0.5)
        task.record(name, ceiling.matmul(dtype, size, seconds))
    return task.figures[name]["tera_operations_per_second"]


def memory(compiled):
    """Bytes: what XLA planned for the program, arguments and results included, and the most that this process held so
    far, which an earlier program may have taken."""
    plan = compiled.memory_analysis()
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "program_bytes": kept + plan.temp_size_in_bytes,
        "process_peak_bytes": stats.get("peak_bytes_in_use"),
        "limit_bytes": stats.get("bytes_limit"),
    }


def headline(figures):
    """bfloat16's rates at the first batch size, and what did not fit."""
    rates = [
        f"{name}: {figure['images_per_second']:.4g} images/s, {figure['share_of_matrix_rate']:.0%} of the matrix rate"
        for name, figure in figures.items()
        if "images_per_second" in figure and figure["dtype"] == "bfloat16"
    ]
    return "; ".join(rates[: len(NETS)] + rows.shortfalls(figures))


if __name__ == "__main__":
    main()
