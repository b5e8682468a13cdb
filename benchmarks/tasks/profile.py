"""Where the training step's time goes on the device: a trace of NF-ResNet50, bfloat16, batch 128, and its summary.

    python -m benchmarks.tasks.profile --seconds=45 --output=FILE

Of the time in which operations ran: the ten most expensive operations, with the layer that each came from, the ten most
expensive names when all of a name are added up, and the shares of each kind of operation and each phase of the step;
and the share of the traced time in which nothing ran. No TensorFlow: jax reads the trace itself. A trace that cannot be
read is kept next to the result, compressed.
"""

import collections
import dataclasses
import gzip
import pathlib
import re
import tempfile

import jax

from benchmarks import train_step as step_programs
from benchmarks.tasks import common, train_step

STEPS, TOP = 3, 10
MOST_BYTES = 16 << 20  # of a kept trace
CONTROL_FLOW = re.compile(r"(while|call|conditional|tuple|async)[\w-]*([._]\d+)*")  # their bodies are traced as well
DERIVED_LINES = re.compile(r"XLA (Modules|Ops)|Steps|Framework|Source|TraceMe|Async|Name Scope", re.IGNORECASE)
# What says that an event is work of the device. A stream's name does not: it may be "CUPTI overhead" as a whole.
WORK = {"hlo_op", "kernel_details", "memcpy_details", "memset_details", "cuda_graph_exec_id"}
KINDS = (  # the first that fits an operation's or a kernel's name
    ("pooling", r"reduce_window|select_and_scatter|select-and-scatter|reduce-window|pool"),
    ("convolution or matrix product", r"conv(?!ert)|cudnn|gemm|dot|cublas|nvjet|cutlass|xmma|fprop|dgrad|wgrad|ynn"),
    ("reduction", r"reduc"),
    ("copy or layout", r"copy|transpose|memcpy|memset|pad|slice|concatenate|gather|scatter|nchw|nhwc"),
    ("elementwise", r""),
)


@dataclasses.dataclass(frozen=True)
class Event:
    """One run of one operation. operation: XLA's name; kernel: the device's; times in ns."""

    operation: str
    kernel: str
    start: float
    duration: float


def main() -> None:
    train_step.take_all_memory()
    task = common.start("profile", __doc__)
    (_, row), *_ = train_step.work_of(task.rehearse).values()
    lowered, arguments, _ = train_step.timed_lowering(row.config())
    compiled = lowered.compile()
    run = step_programs.stepping(compiled, *arguments)
    del arguments
    run(), run()
    with tempfile.TemporaryDirectory() as folder:
        trace(run, folder)
        files = sorted(pathlib.Path(folder).rglob("*.xplane.pb"))
        try:
            events = [event for path in files for event in read_events(path)]
            if not events:
                raise ValueError(f"no operation of a device in {[path.name for path in files]}")
        except Exception:
            keep(files, task.options.output)
            raise
    summary = summarize(events, scopes(compiled.as_text()))
    task.record("row", row.name)
    task.record("milliseconds_per_step", summary.pop("milliseconds") / STEPS)
    for name, value in summary.items():
        task.record(name, value)
    first = ", ".join(f"{kind} {share:.0%}" for kind, share in list(summary["kinds"].items())[:2])
    task.finish(f"{row.name}: {first}; idle {summary['idle_share']:.0%}")


def trace(run, folder):
    """Traces some steps into a folder."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        for _ in range(STEPS):
            run()


def keep(files, output):
    """Writes the compressed traces next to the result."""
    for number, path in enumerate(files):
        packed = gzip.compress(path.read_bytes())
        if len(packed) <= MOST_BYTES:
            pathlib.Path(f"{output.removesuffix('.json')}.{number}.xplane.pb.gz").write_bytes(packed)


def read_events(path):
    """The operations that ran, from a trace file: those of the GPUs, or where there is none, of a CPU's threads."""
    planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:") and any(plane.lines)]
    for line in (line for plane in devices or planes for line in plane.lines):
        if DERIVED_LINES.search(line.name or ""):
            continue
        for event in line.events:
            stats = dict(event.stats)
            name = stats.get("hlo_op", event.name)
            if stats.keys() & WORK and not CONTROL_FLOW.fullmatch(name):
                yield Event(name, event.name, event.start_ns, event.duration_ns)


def scopes(hlo_text):
    """{operation: where in the program it came from} of a compiled program, by its text. A fusion that does not say it
    is where the last of its own operations is that does."""
    found, last_of, fusions, computation = {}, {}, {}, ""
    for line in hlo_text.splitlines():
        if line.endswith("{") and " = " not in line:
            computation = re.sub(r"^ENTRY ", "", line).lstrip("% ").split(" ")[0]
        if not (name := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = ", line)):
            continue
        name = plain(name[1])
        if scope := re.search(r'op_name="([^"]*)"', line):
            found[name] = last_of[computation] = scope[1]
        elif called := re.search(r"calls=%?([\w.-]+)", line):
            fusions[name] = called[1]
    return {name: last_of.get(called, "") for name, called in fusions.items()} | found


def plain(name):
    """A name as the kernels that are called after an operation have it."""
    return re.sub(r"\W", "_", name)


def summarize(events, scope_of):
    """The figures: see the module's docstring. scope_of: as `scopes`; kernels that are named after an operation are
    found by that name."""
    each, merged, kinds, phases = (collections.Counter() for _ in range(4))
    kernels, total = {}, 0.0
    for event in events:
        scope = scope_of.get(plain(event.operation), "")
        each[event.operation, scope] += event.duration
        merged[re.sub(r"([._-]\d+)+$", "", event.operation)] += event.duration
        kinds[kind(event)] += event.duration
        phases[phase(scope)] += event.duration
        kernels[event.operation] = event.kernel
        total += event.duration
    begun, ended = min(event.start for event in events), max(event.start + event.duration for event in events)
    return {
        "milliseconds": (ended - begun) / 1e6,
        "idle_share": 1 - covered(events) / (ended - begun),
        "operations": [
            {"operation": name, "share": spent / total, "kernel": kernels[name], "scope": scope}
            for (name, scope), spent in each.most_common(TOP)
        ],
        "names": {name: spent / total for name, spent in merged.most_common(TOP)},
        "kinds": {name: spent / total for name, spent in kinds.most_common()},
        "phases": {name: spent / total for name, spent in phases.most_common()},
        "events": len(events),
    }


def covered(events):
    """Nanoseconds in which at least one of the events ran."""
    spent, until = 0.0, float("-inf")
    for event in sorted(events, key=lambda event: event.start):
        end = event.start + event.duration
        spent += max(0.0, end - max(event.start, until))
        until = max(until, end)
    return spent


def kind(event):
    names = f"{event.operation} {event.kernel}".lower()
    return next(name for name, pattern in KINDS if re.search(pattern, names))


def phase(scope):
    """Of the step, by the operation's scope: the attack is its only loop."""
    if not scope:
        return "unknown"
    part = "backward" if "transpose(" in scope else "forward" if "jvp(" in scope else "rest"
    return f"{'attack' if '/while/' in scope else 'training'}, {part}"


if __name__ == "__main__":
    main()
