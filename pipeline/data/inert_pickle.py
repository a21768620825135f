"""Pickles of plain values and byte arrays, read without creating any object that they name.

The standard unpickler calls what a pickle names, and NumPy's own names are enough to run code: a dtype
whose state turns raw bytes into object pointers. Here a name becomes a `Name` and a call becomes a
`Call`, which only record what the pickle asks for.
"""

import pickletools
from typing import Any, NamedTuple

import numpy as np

MAX_OPCODES = 1_000_000  # a batch of 50,000 images with labels and file names has about 350,000
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STRINGS = {"BINSTRING", "SHORT_BINSTRING"}  # of Python 2
PUT, GET = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"BINGET", "LONG_BINGET"}
RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}  # NumPy 1 and 2
UINT8 = (b"u1", 0, 1), (3, b"|", None, None, None, -1, -1, 0)  # arguments and state of NumPy's dtype


class PickleError(Exception):
    """The pickle is damaged, or contains something else than plain values and byte arrays."""


class Name(NamedTuple):
    """A module and a name in it, separated by a space."""

    text: str


class Call:
    """A call that the pickle asks for, and the state that it sets on the result."""

    def __init__(self, function: object, arguments: object) -> None:
        self.function, self.arguments, self.state = function, arguments, None


def load(data: bytes) -> object:
    """The value of a pickle of the protocols 2 to 4: None, bool, int, bytes, str, tuple, list, dict, `Name` or `Call`.

    Strings of Python 2 are bytes. Raises `PickleError`.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPCODES:
                raise PickleError(f"it has more than {MAX_OPCODES:,} opcodes")
            machine.execute(opcode.name, argument)
        (value,) = machine.stack
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise PickleError("it is damaged") from None
    return value


class _Machine:
    """The stack machine of pickles: `stack` holds the values after the last mark, `outer` those before each mark."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, object] = {}

    def execute(self, name: str, argument: Any) -> None:
        """Run one opcode."""
        push, pop = self.stack.append, self.stack.pop
        if name in VALUES:
            push(argument)
        elif name in PUT:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in GET:
            push(self.memo[argument])
        elif name in STRINGS:
            push(argument.encode("latin-1"))
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name == "MARK":
            self.outer.append(self.stack)
            self.stack = []
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            push([] if name == "EMPTY_LIST" else {})
        elif name in ("TUPLE", "LIST", "APPENDS", "SETITEMS"):
            items, self.stack = self.stack, self.outer.pop()
            self.add(name, items)
        elif name in TUPLES:
            items = [pop() for _ in range(TUPLES[name])]
            push(tuple(reversed(items)))
        elif name in ("APPEND", "SETITEM"):
            items = [pop() for _ in range(1 if name == "APPEND" else 2)]
            self.add(f"{name}S", items[::-1])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            parts = [argument] if name == "GLOBAL" else [pop(-2), pop()]
            push(Name(" ".join(parts)))
        elif name == "REDUCE":
            arguments = pop()
            push(Call(pop(), arguments))
        elif name == "BUILD":
            state = pop()
            call = self.stack[-1]
            call.function, call.state = call.function, state
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"it has the opcode {name}, which arrays and plain values do not need")

    def add(self, name: str, items: list[Any]) -> None:
        """End a group of items: a new tuple or list, or more items of the list or dictionary below."""
        if name == "TUPLE":
            self.stack.append(tuple(items))
        elif name == "LIST":
            self.stack.append(items)
        elif name == "APPENDS" and type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        else:
            keys = items[::2]
            if type(self.stack[-1]) is not dict or not all(isinstance(key, (bytes, str)) for key in keys):
                raise PickleError("it is damaged")
            self.stack[-1].update(zip(keys, items[1::2], strict=True))


def byte_table(value: object) -> np.ndarray | None:
    """The NumPy array that `value` describes, uint8 (rows, columns), read-only; None if it is anything else."""
    if not isinstance(value, Call) or not isinstance(value.function, Name) or value.function.text not in RECONSTRUCT:
        return None
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        return None
    _, shape, dtype, is_fortran, content = value.state
    if not isinstance(dtype, Call) or dtype.function != Name("numpy dtype"):
        return None
    described = _as_bytes(dtype.arguments), _as_bytes(dtype.state)
    sizes = isinstance(shape, tuple) and [type(size) for size in shape] == [int, int]
    if described != UINT8 or is_fortran not in (0, None) or not sizes or type(content) is not bytes:
        return None
    if min(shape) < 0 or shape[0] * shape[1] != len(content):
        return None
    return np.frombuffer(content, np.uint8).reshape(shape)


def _as_bytes(values: object) -> object:
    """A tuple whose str are bytes, as in a pickle of Python 2."""
    if not isinstance(values, tuple) or len(values) > 8:
        return None
    return tuple(value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values)
