"""The training step as XLA compiles it for an NVIDIA H100, without one: its kernels, and the least time they can take.

    pip install jax jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12
    pip install flax optax orbax-checkpoint ml_collections safetensors pillow rich
    python benchmarks/gpu_program.py                       NF-ResNet50 in bfloat16: step, its input gradient, options
    python benchmarks/gpu_program.py --model=resnet50 --dtype=float32 --programs=step

Prints a table of each program and adds it to benchmarks/results/gpu_program_h100.json. A program takes some minutes to
compile; --programs chooses: step, "input gradient", and names in options.py, which stand for the attack alone.

Each kernel's time is a bound: its operations at the peak rate of their dtype, or the bytes of its operands and results
at the memory's rate, whichever takes longer. Nothing is measured: kernels reach less than their bound, the compiler
chooses convolution algorithms on a device only, and the pauses between kernels, some microseconds each, are left out.
What a cache saves between two kernels is left out, too.
"""

import collections
import json
import os
import pathlib
import re
import sys
import sysconfig
import time
from types import SimpleNamespace

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import hlo, options, parser, save_result, train_step
from nofrost_jax import keys, methods, models, optim, parallel
from nofrost_jax.classifier import create_model
from nofrost_jax.state import TrainState
from nofrost_jax.tables import aligned

RESULT = "gpu_program_h100.json"
# NVIDIA H100 Tensor Core GPU datasheet, SXM5, dense. Its table doubles tensor cores' rates for sparsity.
PEAKS = {"bf16": 989.4e12, "f32": 494.7e12}  # products and convolutions; f32: TF32, jax's default precision
ELEMENTWISE = 33.5e12  # half of its 67 TFLOP/s in float32, which count a multiply-add twice
BANDWIDTH = 3.35e12  # bytes/s
SMALL = 1e6  # bytes; moved in 0.3 microseconds, a tenth of what starting a kernel takes
# As in XLA's own description of the device (xla/backends/gpu/target_config/specs/h100_sxm.txtpb).
TARGET = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def main() -> None:
    line = parser(__doc__)
    line.add_argument("--model", default="nf_resnet50", choices=models.NAMES)
    line.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    line.add_argument("--batch_size", type=int, default=128)
    line.add_argument("--image_size", type=int, default=224)
    line.add_argument("--programs", default="", help="names with commas between them; default: all")
    chosen = line.parse_args()
    predicted = [name for name, option in options.OPTIONS.items() if not option.flags]
    names = [name for name in chosen.programs.split(",") if name] or ["step", "input gradient", *predicted]
    config = train_step.make_config(chosen)
    mesh = target_mesh()
    for name in names:
        begun = time.perf_counter()
        compiled = lowered(name, config, mesh).compile()
        found = describe(hlo.kernels(compiled.as_text()), chosen.batch_size)
        found |= {"temporary_bytes": compiled.memory_analysis().temp_size_in_bytes, "jax": jax.__version__}
        key = f"{chosen.model} {chosen.dtype} {chosen.batch_size} {name}"
        show(key, found, time.perf_counter() - begun)
        path = pathlib.Path(chosen.output) / RESULT
        known = json.loads(path.read_text()) if path.exists() else {}
        save_result(chosen.output, RESULT, known | {key: found})


def target_mesh() -> Mesh:
    """A mesh of one device that is not there; from now on programs are traced for it."""
    nvcc = os.path.join(sysconfig.get_path("purelib"), "nvidia", "cuda_nvcc")
    os.environ["NOFROST_CONV"] = "xla"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir={nvcc}"
    jax.config.update("jax_platforms", "cpu")
    jax.devices()  # finds the compiler
    devices = topologies.get_topology_desc(platform="cuda", target_config=TARGET, topology="1x1x1").devices
    return Mesh(np.array(devices), (parallel.AXIS,))


def lowered(name: str, config, mesh: Mesh):
    """A program, lowered for the mesh's one device, of shapes alone."""
    size, count = config.data.image_size, config.batch_size
    model = create_model(config.model, axis_name=parallel.AXIS)
    variables = models.abstract_variables(model, size)
    batch = {"image": jax.ShapeDtypeStruct((count, size, size, 3), np.uint8)}
    batch["label"] = jax.ShapeDtypeStruct((count,), np.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    replicated = NamedSharding(mesh, PartitionSpec())

    def placed(tree):
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated), tree)

    if name == "step":
        method = methods.TABLE[config.method.name]
        optimizer = optim.create(config, 5004, method.updates(config))
        begin = method.begin(config, size)
        state = jax.eval_shape(lambda variables: TrainState.create(variables, optimizer, begin), variables)
        step = method.make_step(model, optimizer, config, 5004)
        whole, shards = PartitionSpec(), PartitionSpec(parallel.AXIS)
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(whole, shards, whole), out_specs=whole, check_vma=False)
        return jax.jit(mapped, donate_argnums=0).lower(placed(state), placed(batch), placed(key))
    params, stats = variables["params"], variables.get("batch_stats", {})
    if name == "input gradient":
        params = jax.eval_shape(model.frozen, params)
        images = jax.ShapeDtypeStruct((count, size, size, 3), np.float32)
        arguments = params, stats, images, batch["label"]
        return jax.jit(options.gradient_program(config)).lower(*placed(arguments))
    image_keys = jax.eval_shape(lambda key: keys.per_image(key, np.arange(count)), key)
    with options.OPTIONS[name].applied():
        program = jax.jit(options.attack_program(config))
        return program.lower(*placed((params, stats, *batch.values(), image_keys)))


def bound(kernel: hlo.Kernel) -> float:
    """Least seconds of all runs of a kernel in a step."""
    matrix = kernel.kind not in ("elementwise", "pooling")
    peak = PEAKS.get(kernel.dtype, ELEMENTWISE) if matrix else ELEMENTWISE
    return kernel.times * max(kernel.operations / peak, kernel.bytes / BANDWIDTH)


def describe(kernels: list[hlo.Kernel], batch_size: int) -> dict:
    """What is said of a program: its bound, and of each region and kind of kernel how many there are, and how large."""
    rows = collections.defaultdict(collections.Counter)
    convolutions, special = collections.Counter(), collections.defaultdict(collections.Counter)
    for one in kernels:
        region = "attack" if one.loop else "rest"
        sizes = {"kernels": one.times, "small": one.times * (one.bytes < SMALL), "seconds": bound(one)}
        sizes |= {"bytes": one.times * one.bytes, "operations": one.times * one.operations}
        rows[f"{region}, {one.kind}"].update(sizes)
        if one.layout:
            convolutions[f"{region}, {one.kind}, {one.dtype}, {one.layout}"] += one.times
        for what in kinds_of(one):
            special[f"{region}, {what}"].update(sizes)
    seconds = sum(row["seconds"] for row in rows.values())
    return {
        "seconds": seconds,
        "images_per_second": batch_size / seconds,
        "kernels": sum(row["kernels"] for row in rows.values()),
        "small_kernels": sum(row["small"] for row in rows.values()),
        "rows": {name: dict(row) for name, row in sorted(rows.items())},
        "convolutions": dict(sorted(convolutions.items())),
        "of these": {name: dict(row) for name, row in sorted(special.items())},
    }


def kinds_of(kernel: hlo.Kernel) -> list[str]:
    """What a kernel is said to do beside its kind."""
    found = []
    if re.search(r"(stem|shortcut|conv\d)/(reduce_sum|square|rsqrt|div)$", kernel.scope):
        found.append("gradients of biases and kernels" if "transpose(" in kernel.scope else "statistics of kernels")
    if kernel.kind == "elementwise" and kernel.opcodes & {"transpose", "copy"}:
        found.append("transposes and copies")
    if kernel.opcodes - hlo.FREE - hlo.MOVES == {"convert"}:
        found.append("casts alone")
    if {"xor", "shift-left"} <= kernel.opcodes:
        found.append("random bits")
    if kernel.opcodes & {"reduce-window", "select-and-scatter", "scatter"}:
        found.append("windows and scatters")
    return found


def show(key: str, found: dict, seconds: float) -> None:
    rate, least = found["images_per_second"], 1e3 * found["seconds"]
    print(f"{key}: at least {least:.1f} ms, {rate:.0f} images/s; compiled in {seconds:.0f} s")
    rows = [("", "kernels", "small", "10^12 operations", "GB", "ms")]
    for name, row in (found["rows"] | found["of these"]).items():
        row = SimpleNamespace(**row)
        numbers = f"{row.operations / 1e12:.2f}", f"{row.bytes / 1e9:.1f}", f"{1e3 * row.seconds:.2f}"
        rows.append((name, str(row.kernels), str(row.small), *numbers))
    print(*aligned(rows, "<>>>>>"), sep="\n")
    print(*(f"  {count} convolutions: {name}" for name, count in found["convolutions"].items()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
