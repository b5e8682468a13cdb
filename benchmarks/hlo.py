"""The kernels of a program that XLA compiled for a GPU, read from its text: what each computes, reads and writes."""

import dataclasses
import math
import re
from collections.abc import Iterator

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}  # or 4
# They move no data: names of buffers, views of them, values known beforehand.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
MOVES = {"broadcast", "reshape", "transpose", "copy", "slice", "dynamic-slice", "pad", "concatenate", "iota", "reverse"}
PARTS = {"slice", "dynamic-slice", "gather"}  # read a part of their operand
ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d\w*)?)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*)")
CALL = re.compile(r"([a-z][\w-]*)\((.*)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation. shape: as in the text, of a tuple all its arrays'. operands: their names, of a
    parameter its number. rest: its attributes."""

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, pattern: str) -> str:
        found = re.search(pattern, self.rest)
        return found[1] if found else ""

    @property
    def scope(self) -> str:
        """Where in the traced program it comes from."""
        return self.attribute(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What the device runs as one: an instruction of the entry or of a loop's body.

    kind: forward | input gradient | filter gradient (convolutions), product, pooling, elementwise. times: how often a
    step runs it; loop: whether in a loop of the program. operations: a multiply-add counts two.
    """

    name: str
    kind: str
    dtype: str
    layout: str
    times: int
    loop: bool
    operations: float
    bytes_read: int
    bytes_written: int
    scope: str
    opcodes: frozenset

    @property
    def bytes(self) -> int:
        return self.bytes_read + self.bytes_written


def arrays(shape: str) -> list[tuple[str, list[int]]]:
    """[(dtype, dimensions)] of a shape or a tuple of shapes."""
    return [(dtype, [int(length) for length in dims.split(",") if length]) for dtype, dims in ARRAY.findall(shape)]


def size(shape: str) -> int:
    """Elements of the largest array of a shape."""
    return max((math.prod(dims) for _, dims in arrays(shape)), default=0)


def bytes_of(shape: str) -> int:
    return sum(math.prod(dims) * WIDTHS.get(dtype, 4) for dtype, dims in arrays(shape))


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """({computation: {name: instruction}}, the entry's name) of a module's text."""
    computations, entry, current = {}, "", {}
    for line in text.splitlines():
        if line.endswith("{") and (head := re.match(r"(ENTRY )?%?([\w.-]+) \(", line)):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif found := INSTRUCTION.match(line):
            made = read_instruction(found[2], found[3])
            current |= {made.name: made} if made else {}
    return computations, entry


def read_instruction(name: str, text: str) -> Instruction | None:
    """An instruction of what stands after its "="."""
    shape, text = split_shape(text)
    if not (call := CALL.match(text)):
        return None
    end = closing(call[2])
    inside = call[2][:end]
    operands = (inside,) if call[1] == "parameter" else tuple(re.findall(r"%([\w.-]+)", inside))
    return Instruction(name, call[1], shape, operands, call[2][end:])


def split_shape(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    end = closing(text[1:]) + 2
    return text[:end], text[end:].lstrip()


def closing(text: str) -> int:
    """Where the bracket closes that was opened before `text`."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def kernels(text: str) -> list[Kernel]:
    """All kernels of a compiled program, in the order of its text; those of a loop once, with its trip count."""
    computations, entry = parse(text)
    return list(walk(computations, entry, 1, loop=False))


def walk(computations: dict, name: str, times: int, loop: bool) -> Iterator[Kernel]:
    body = computations[name]
    for instruction in body.values():
        if instruction.opcode == "while":
            count = int(instruction.attribute(r'known_trip_count":\{"n":"(\d+)"') or 1)
            yield from walk(computations, instruction.attribute(r"body=%?([\w.-]+)"), times * count, loop=True)
        elif instruction.opcode in ("call", "async-start"):
            called = instruction.attribute(r"(?:to_apply|calls)=%?([\w.-]+)")
            yield from walk(computations, called, times, loop)
        elif instruction.opcode not in FREE and not instruction.opcode.endswith("-done"):
            yield kernel(computations, body, instruction, times, loop)


def kernel(computations: dict, body: dict, instruction: Instruction, times: int, loop: bool) -> Kernel:
    shapes = [body[name].shape for name in instruction.operands]
    inner = computations.get(instruction.attribute(r"calls=%?([\w.-]+)"), {})
    opcodes = {one.opcode for one in inner.values()} or {instruction.opcode}
    kind, operations = "elementwise", arithmetic(inner or {instruction.name: instruction})
    if target := instruction.attribute(r'custom_call_target="__cudnn\$conv(\w+)"'):
        kind, operations = convolution(instruction, target, shapes)
    elif "dot" in opcodes or "gemm" in instruction.attribute(r'custom_call_target="([^"]*)"'):
        kind, operations = "product", sum(dot_operations(inner, one) for one in inner.values() if one.opcode == "dot")
    elif opcodes & {"reduce-window", "select-and-scatter"}:
        kind = "pooling"
    return Kernel(
        name=instruction.name,
        kind=kind,
        dtype=arrays(shapes[0])[0][0] if shapes and arrays(shapes[0]) else arrays(instruction.shape)[0][0],
        layout=instruction.attribute(r"dim_labels=([^,]*)"),
        times=times,
        loop=loop,
        operations=operations,
        bytes_read=sum(read_bytes(inner, place, shape) for place, shape in enumerate(shapes)),
        bytes_written=bytes_of(instruction.shape),
        scope=instruction.scope or next((one.scope for one in reversed(inner.values()) if one.scope), ""),
        opcodes=frozenset(opcodes),
    )


def convolution(instruction: Instruction, target: str, shapes: list[str]) -> tuple[str, float]:
    """(kind, operations) of a cuDNN call. A multiply-add for each output of the forward pass and each weight behind it;
    XLA also writes some input gradients as forward convolutions."""
    if target == "BackwardFilter":
        outputs, weights, kind = shapes[1], instruction.shape, "filter gradient"
    else:
        outputs, weights = (shapes[0] if target == "BackwardInput" else instruction.shape), shapes[1]
        kind = "input gradient" if target == "BackwardInput" or "transpose(" in instruction.scope else "forward"
    features = instruction.attribute(r"dim_labels=\w+_(\w+)->").index("o")
    dimensions = arrays(weights)[0][1]
    return kind, 2.0 * math.prod(arrays(outputs)[0][1]) * math.prod(dimensions) / dimensions[features]


def dot_operations(body: dict, dot: Instruction) -> float:
    left = arrays(body[dot.operands[0]].shape)[0][1]
    contracted = [int(place) for place in dot.attribute(r"lhs_contracting_dims=\{([\d,]*)\}").split(",")]
    return 2.0 * size(dot.shape) * math.prod(left[place] for place in contracted)


def arithmetic(inner: dict) -> float:
    """Elements that the instructions of a fusion compute, each counted once."""
    counted = (one for one in inner.values() if one.opcode not in FREE | MOVES)
    return float(sum(size(one.shape) for one in counted))


def read_bytes(inner: dict, place: int, shape: str) -> int:
    """Bytes that a kernel reads of operand number `place`: parts of it, where a fusion uses nothing else."""
    names = [one.name for one in inner.values() if one.opcode == "parameter" and one.operands == (str(place),)]
    users = [one for one in inner.values() if set(names) & set(one.operands)]
    if users and all(one.opcode in PARTS for one in users):
        return min(bytes_of(shape), sum(bytes_of(one.shape) for one in users))
    return bytes_of(shape)
