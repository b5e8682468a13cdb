"""A reader of pickles that runs nothing: it builds plain values, and refuses every name that is not in a table.

Python's own reader calls what a pickle tells it to call. This one knows the operations of a state dict, calls the
functions of the table alone, and drops what could be slow to hash. Its memory is a small multiple of the file's size.
"""

import pickletools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import IO, Any

MOST = 2_000_000  # operations; the largest state dicts have some ten thousand
INERT = object()  # stands for what a state dict does not need: whatever is done to it, nothing happens

_CONSTANTS = {
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: INERT,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(Exception):
    """The pickle asks for a name that is not in the table."""


def load(file: IO[bytes], table: Mapping[tuple[str, str], Any], reference: Callable[[Any], Any]) -> Any:
    """The value of the pickle at the file's position, which is moved behind it.

    table: {(module, name): what stands for it: a function of ours, a value, or INERT}. reference: of a persistent id,
    its value. Raises Refused for another name, and nearly anything for a damaged or hostile file.
    """
    machine = _Machine(table, reference)
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST:
            raise ValueError("too long for a state dict")
        machine.do(operation.name, argument)
    return machine.stack.pop()


class _Machine:
    def __init__(self, table, reference):
        self.table, self.reference = table, reference
        self.stack, self.marks, self.memo = [], [], {}

    def do(self, name: str, argument: Any) -> None:
        pop, push = self.stack.pop, self.stack.append
        if name in _CONSTANTS:
            push(argument)
            return
        if name in _NEW:
            push(_NEW[name]())
            return
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(self.stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._remember(len(self.memo) if argument is None else argument)
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "POP":
                pop()
            case "POP_MARK":
                self._marked()
            case "TUPLE" | "LIST":
                push(tuple(self._marked()) if name == "TUPLE" else self._marked())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(reversed([pop() for _ in range(_TUPLES[name])])))
            case "DICT":
                items = self._marked()
                push({})
                self._set(items)
            case "SETITEM" | "SETITEMS":
                self._set(self._marked() if name == "SETITEMS" else [pop(), pop()][::-1])
            case "APPEND" | "APPENDS":
                items = self._marked() if name == "APPENDS" else [pop()]
                if self.stack[-1] is not INERT:
                    list.extend(self.stack[-1], items)
            case "ADDITEMS":
                self._marked()
            case "FROZENSET":
                self._marked()
                push(INERT)
            case "GLOBAL":
                push(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = pop(), pop()
                push(self._named(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, function = pop(), pop()
                push(self._called(function, arguments))
            case "BUILD":
                pop()  # attributes, which nothing here has
            case "BINPERSID":
                push(self.reference(pop()))
            case _:
                raise ValueError(f"the operation {name}, which no state dict needs")

    def _remember(self, place):
        if place.bit_length() > 31:
            raise ValueError("impossible place in the memory")
        self.memo[place] = self.stack[-1]

    def _marked(self):
        """What was pushed since the last mark, taken off."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _set(self, items):
        """Sets keys and values in the dictionary on top; keys that are no short numbers or texts are left out."""
        if (target := self.stack[-1]) is INERT:
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str) or (isinstance(key, int) and key.bit_length() < 32):
                dict.__setitem__(target, key, value)

    def _named(self, module, name):
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        if (module, name) not in self.table:
            raise Refused(f"{module}.{name}")
        return self.table[module, name]

    def _called(self, function, arguments):
        if function is INERT:
            return INERT
        if not isinstance(function, FunctionType) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        return function(*arguments)
