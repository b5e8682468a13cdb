"""AutoAttack here against pyautoattack: the same weights, images and machine, in paired rounds. And what attacks cost.

    python benchmarks/attacks.py                    the committed digits checkpoint, 360 images, 3 rounds
    python benchmarks/attacks.py --parts=compile    one of: peer, compile, memory, counts
    python benchmarks/attacks.py --parts=peer --device=cuda     on a GPU, PyTorch there too

peer: seconds of APGD-CE-100 and of aa_standard, ours with and without compilation. The net is NoFrost on digits, once
in JAX and once in PyTorch, there with the weight standardization folded into the kernels beforehand and with the
fastest number of threads. compile: seconds to compile each attack for NF-ResNet26 at 64 pixels, cold and from a warm
cache. memory: peak memory against the chunk size.
counts: passes that the engine reports against the theoretical count, and against calls counted within the net.
Needs requirements-parity.txt and requirements-oracles.txt for peer. Writes benchmarks/results/attacks_DEVICE.json.
"""

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import nofrost_jax
from benchmarks import ROOT, parser, save_result, stage_sizes, torch_peer, versions
from nofrost_jax import attacks, data, parallel
from nofrost_jax.checkpoint import read_config
from nofrost_jax.classifier import create_model
from nofrost_jax.config import for_evaluation, prepare, resolve
from nofrost_jax.evaluation import protocols, results, runs
from nofrost_jax.models import init

CHECKPOINT = ROOT / "notebooks" / "digits_nofrost"
STOP = parallel.StopSignal()


def digits_config(batch_size, suite):
    """The config of the committed checkpoint with other attacks, made whole as `main.py --mode=evaluate` does it."""
    from ml_collections import ConfigDict

    config, _ = for_evaluation(ConfigDict(read_config(CHECKPOINT)), None)
    with config.unlocked():
        config.evaluation.attacks = suite
        config.evaluation.while_training = ()
    config.evaluation.batch_size = batch_size
    return prepare(config)


# peer


SUITE = {"apgd_ce_100": {"name": "apgd_ce", "steps": 100}, "aa_standard": {"name": "aa_standard"}}
PEER_ATTACKS = {"apgd_ce_100": ["apgd-ce"], "aa_standard": ["apgd-ce", "apgd-t", "fab-t", "square"]}


def peer(options):
    """Paired rounds of both suites."""
    classifier, count = nofrost_jax.load(CHECKPOINT), options.images or 360
    batch = digits_batch(options.batch_size, count)
    net = torch_peer.twin(classifier, options.device)
    images, labels = torch_peer.to_torch(batch["image"] / np.float32(255), batch["label"], options.device)
    head = {"images": count, "batch_size": options.batch_size}
    head["torch_threads"] = torch_peer.choose_threads(net, images[: options.batch_size])
    head["largest_logit_difference"] = torch_peer.logit_difference(net, images, classifier, batch["image"])
    rounds = []
    for number in range(options.rounds):
        for label in only(options, SUITE):
            row = {"attack": label, "round": number, **ours(classifier, label, options.batch_size, count)}
            row |= torch_peer.attack(
                net, images, labels, PEER_ATTACKS[label], row.pop("epsilon"), options.batch_size, number
            )
            rounds.append(row)
            print(json.dumps(row), flush=True)
    found = {label: ratios([row for row in rounds if row["attack"] == label], count) for label in only(options, SUITE)}
    return head | {"rounds": rounds} | found


def digits_batch(batch_size, count):
    """`count` evaluation digits, evenly spread, {"image", "label", ...}."""
    config = digits_config(batch_size, SUITE)
    config.evaluation.limit = count
    (batch,) = data.open(config, check=()).eval_batches(count)
    return batch


def ours(classifier, label, batch_size, count):
    """Seconds of a suite on digits, and the robust accuracy: a new Evaluator, which finds no compiled program of an
    earlier round, for the time with compilation, and a second run of it on an empty folder for the time without."""
    config = digits_config(batch_size, {label: SUITE[label]})
    config.evaluation.limit = count
    devices = parallel.Devices()
    variables = devices.replicate(classifier.variables)
    jax.clear_caches()
    evaluator = runs.evaluator(config, devices, data.open(config, check=("evaluation",)))
    row = {"epsilon": config.attack.epsilon_255 / 255}
    for name in ("ours_with_compilation", "ours"):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, no_compilation_cache():
            outcomes = evaluator.run(variables, STOP, folder)
        row[name] = time.perf_counter() - start
    return row | {"our_robust_accuracy": results.robust_accuracy(outcomes["protocols"][label])}


@contextlib.contextmanager
def no_compilation_cache():
    """Compiles everything in a block again."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it remembers whether it is used
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def ratios(rounds, count):
    """Medians over the rounds of pyautoattack's time over ours, and of seconds for 1,000 images."""

    def median(values):
        values = sorted(values)
        return {"median": float(np.median(values)), "least": values[0], "most": values[-1]}

    return {
        "pyautoattack / ours, compilation included": median(
            r["pyautoattack"] / r["ours_with_compilation"] for r in rounds
        ),
        "pyautoattack / ours": median(r["pyautoattack"] / r["ours"] for r in rounds),
        "our seconds for 1,000 images": median(1000 * r["ours"] / count for r in rounds),
        "pyautoattack's seconds for 1,000 images": median(1000 * r["pyautoattack"] / count for r in rounds),
    }


# compile


def compile_times(options):
    """{attack: {"cold", "warm"}} seconds, NF-ResNet26 with 1,000 classes at 64 pixels, batch 16, each in a process of
    its own with a cache folder."""
    with tempfile.TemporaryDirectory() as cache:
        found = {}
        for temperature in ("cold", "warm"):
            command = [sys.executable, __file__, "--parts=compile_here", f"--cache={cache}", *same_net(options)]
            command.append(f"--attacks={options.attacks}")
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            for name, seconds in json.loads(lines[-1]).items():
                found.setdefault(name, {})[temperature] = round(seconds, 2)
    for name, row in found.items():
        print(f"{name:12} cold {row['cold']:6.1f} s   warm {row['warm']:6.1f} s", flush=True)
    return found


def compile_here(options):
    """Compiles every attack once, through the engine's programs, and prints the seconds."""
    jax.config.update("jax_compilation_cache_dir", options.cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    config = importlib.import_module("configs.nofrost_r26").get_config()
    config.data.image_size, config.model.stage_sizes = 64, options.stage_sizes
    config = resolve(config)
    devices, size, config.evaluation.batch_size = parallel.Devices(), 16, 16
    programs = runs.programs(config, devices)
    programs.say = lambda _: None
    variables = programs.ready(init(create_model(config.model), jax.random.key(0), 64))
    batch = {"image": np.zeros((size, 64, 64, 3), np.uint8), "label": np.zeros(size, np.int32)}
    batch |= {"index": np.arange(size, dtype=np.int32), "active": np.zeros(size, bool)}
    seconds = {}
    for name in only(options, attacks.NAMES):
        (member,) = protocols.make(name, {"name": name, "epsilon_255": 8.0}).members
        programs.compile_stage(member, variables, batch, jax.random.key(0))
        seconds[name] = programs.compile_seconds.get(member.key, 0.0)  # another of its family may have been compiled
    print(json.dumps(seconds))


# memory


def memory(options):
    """{chunk size: peak resident MiB} of an evaluation of 4,096 fake images of 64 pixels under PGD."""
    found, count = {}, options.images or 4096
    for chunk in (count // 16, count // 4, count):
        command = [sys.executable, __file__, "--parts=memory_here", f"--chunk={chunk}", f"--images={count}"]
        command += same_net(options)
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        found[chunk] = round(float(lines[-1]))
        print(f"chunk {chunk:5}: {found[chunk]} MiB at most", flush=True)
    return found


def memory_here(options):
    import resource

    config = importlib.import_module("configs.nofrost_r26").get_config("runlocal")
    config.data.fake_eval, config.data.image_size, config.data.eval_resize = options.images, 64, 0
    config.model.stage_sizes = options.stage_sizes
    config.evaluation.update({"batch_size": min(64, options.images), "chunk_size": options.chunk, "while_training": ()})
    with config.unlocked():
        config.evaluation.attacks = {
            "pgd": {"name": "pgd", "steps": 1},
            "square": {"name": "square", "queries": 1},
        }
    config = resolve(config)
    devices = parallel.Devices()
    variables = devices.replicate(init(create_model(config.model), jax.random.key(0), 64))
    evaluator = runs.evaluator(config, devices, data.open(config, check=("evaluation",)))
    with tempfile.TemporaryDirectory() as folder:
        evaluator.run(variables, STOP, folder)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# counts


def counting_net():
    """(numbers so far, a linear net with 12 classes that counts its forward and its backward passes)."""
    seen = {"forwards": 0, "backwards": 0}

    def note(what):
        jax.debug.callback(lambda: seen.__setitem__(what, seen[what] + 1))

    @jax.custom_vjp
    def count(x):
        note("forwards")
        return x

    def backward(_, gradient):
        note("backwards")
        return (gradient,)

    count.defvjp(lambda x: (count(x), None), backward)
    weights = jax.random.normal(jax.random.key(1), (48, 12))
    return seen, lambda x: count(x).reshape(len(x), -1) @ weights


def counts(options):
    """{attack: passes of a survivor as reported, as theory has them, and as counted by a callback in the net}."""
    rows = {}
    for name in only(options, attacks.NAMES):
        attack = attacks.create(name, epsilon_255=0, **({"queries": 300} if name in ("square", "rays") else {}))
        seen, logits_fn = counting_net()
        images = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3))
        labels = jnp.argmax(logits_fn(images), -1)
        jax.effects_barrier()
        seen["forwards"] = 0
        result = attack(logits_fn, images, labels, jax.random.split(jax.random.key(2), 1), jnp.ones(1, bool))
        jax.effects_barrier()
        rows[name] = {
            "theory": list(attack.passes(12)),
            "reported": [int(result.forwards[0]), int(result.backwards[0])],
            "counted": [seen["forwards"], seen["backwards"]],
        }
        print(f"{name:14} {rows[name]}", flush=True)
        assert rows[name]["theory"] == rows[name]["reported"] == rows[name]["counted"], name
    return rows


PARTS = {"peer": peer, "compile": compile_times, "memory": memory, "counts": counts}
INNER = {"compile_here": compile_here, "memory_here": memory_here}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--images", type=int, default=0, help="default: 360 for peer, 4096 for memory")
    options.add_argument("--attacks", default="", help="only these attacks of a part, with commas between them")
    options.add_argument("--stage_sizes", type=stage_sizes, default=(), help="of the net of compile and memory")
    options.add_argument("--batch_size", type=int, default=120)
    options.add_argument("--device", default="cpu", help="PyTorch's")
    options.add_argument("--cache", default="")
    options.add_argument("--chunk", type=int, default=0)
    options = options.parse_args()
    if options.parts in INNER:
        INNER[options.parts](options)
        return
    kind = jax.devices()[0].device_kind.replace(" ", "_").lower()
    path = pathlib.Path(options.output) / f"attacks_{kind}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for part in options.parts.split(","):
        found[part] = PARTS[part](options)
        found["versions"] = versions(("jax", "jaxlib", "numpy", "torch", "pyautoattack"))
        found |= {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}
        save_result(options.output, path.name, found)


def same_net(options):
    """The option of this process's net, for one that it starts."""
    return [f"--stage_sizes={','.join(map(str, options.stage_sizes))}"]


def only(options, names):
    """Those of a part's attacks that --attacks names, or all."""
    return [name for name in names if name in options.attacks.split(",")] if options.attacks else list(names)


if __name__ == "__main__":
    main()
