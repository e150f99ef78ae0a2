"""Reads pickles without running them: names are looked up in a table, and nothing else is called.

`pickle.Unpickler` imports and calls what a file names, and its C code trusts numbers of the file (a memo index becomes
an allocation, a deep tuple as a key overflows the stack). PyTorch's `weights_only` reader knows protocol 2 only, and
stops at any class outside of its own list. So the operations are parsed with `pickletools` of the standard library, and
carried out here: those of protocols 1 to 5 that write values, containers and objects.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

MAX_OPERATIONS = 2_000_000
"""Most operations of a pickle. A checkpoint of CLAP with the state of its optimizer has about 50,000; each may take a
hundred bytes of memory and a microsecond, so a hostile file takes seconds instead of all there is."""

UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, MemoryError, AttributeError)
"""Errors that `pickletools` and the operations raise for a damaged pickle."""

NUMBERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"}
TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
VALUES = NUMBERS | TEXTS | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
"""Operations that push their argument."""

CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
"""Operations that push a value of their own."""

Names = Mapping[str, object]
"""What `module.name` stands for: a function of this program that checks its arguments, or a value."""


@dataclass(frozen=True)
class Unknown:
    """Stands for a name outside of the table, and for what calling it would have made; it holds and does nothing.

    Attributes:
        name: `module.name`, or an empty text for what no name stands for.
    """

    name: str = ""


def read_pickle(file: IO[bytes], names: Names, resolve: Callable[[object], object]) -> Any:  # noqa: ANN401  # any value
    """Return what a pickle holds, and leave the file behind its end.

    Sets become lists and tuples. A dictionary keeps only keys that are texts or integers below 2**60: hashing others
    may recurse without end, or collide by design. The state of an object is dropped.

    Args:
        file: where the pickle begins; its `read` must allocate no more than is there, as that of `BytesIO` and `mmap`.
        names: what may be named; a function among them is called with the arguments that the file states.
        resolve: makes an object of a persistent id, which is any value.

    Raises:
        ValueError: the pickle is damaged, has too many operations, or one that is not read.
    """
    machine = _Machine(names, resolve)
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MAX_OPERATIONS:
                raise ValueError(f"it has more than {MAX_OPERATIONS} operations")
            if operation.name == "STOP":
                return machine.pop()
            machine.run(operation.name, argument)
    except UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error
    raise ValueError("it has no end")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Names, resolve: Callable[[object], object]) -> None:
        self._names = names
        self._resolve = resolve
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, object] = {}
        self._operations: dict[str, Callable[[Any], object]] = {
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "MARK": lambda _: self._mark(),
            "POP": lambda _: self._stack.pop() if self._stack else self._to_mark(),
            "POP_MARK": lambda _: self._to_mark(),
            "DUP": lambda _: self._push(self._stack[-1]),
            "PUT": self._keep,
            "BINPUT": self._keep,
            "LONG_BINPUT": self._keep,
            "MEMOIZE": lambda _: self._keep(len(self._memo)),
            "GET": lambda index: self._push(self._memo[index]),
            "BINGET": lambda index: self._push(self._memo[index]),
            "LONG_BINGET": lambda index: self._push(self._memo[index]),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_SET": lambda _: self._push([]),
            "EMPTY_DICT": lambda _: self._push({}),
            "LIST": lambda _: self._push(self._to_mark()),
            "TUPLE": lambda _: self._push(tuple(self._to_mark())),
            "FROZENSET": lambda _: self._push(tuple(self._to_mark())),
            "DICT": lambda _: self._push(plain_dict(self._to_mark())),
            "TUPLE1": lambda _: self._push((self.pop(),)),
            "TUPLE2": lambda _: self._push(tuple(self._pops(2))),
            "TUPLE3": lambda _: self._push(tuple(self._pops(3))),
            "APPEND": lambda _: self._extend([self.pop()]),
            "APPENDS": lambda _: self._extend(self._to_mark()),
            "ADDITEMS": lambda _: self._extend(self._to_mark()),
            "SETITEM": lambda _: self._update(self._pops(2)),
            "SETITEMS": lambda _: self._update(self._to_mark()),
            "GLOBAL": lambda name: self._name(*name.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._pops(2)),
            "REDUCE": lambda _: self._call(*self._pops(2)),
            "NEWOBJ": lambda _: self._call(*self._pops(2)),
            "NEWOBJ_EX": lambda _: self._call(*self._pops(3)[:2]),
            "BUILD": lambda _: self.pop(),
            "BINPERSID": lambda _: self._push(self._resolve(self.pop())),
        }

    def run(self, operation: str, argument: object) -> None:
        """Carry out one operation."""
        if operation in VALUES:
            self._push(argument)
        elif operation in CONSTANTS:
            self._push(CONSTANTS[operation])
        elif operation in self._operations:
            self._operations[operation](argument)
        else:
            raise ValueError(f"it has the operation {operation}, which no file of weights needs")

    def pop(self) -> Any:  # noqa: ANN401  # any value
        """Return the value on top of the stack and take it off."""
        return self._stack.pop()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pops(self, count: int) -> list[Any]:
        """Take values off the stack, the lowest first."""
        if len(self._stack) < count:
            raise ValueError("its stack is empty")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        """Take the values above the last mark off the stack, and the mark."""
        values, self._stack = self._stack, self._marked.pop()
        return values

    def _keep(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is dict:
            target.update(plain_dict(values))

    def _name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name of it is not a text")
        full = f"{module}.{name}"
        self._push(self._names.get(full, Unknown(full)))

    def _call(self, function: object, arguments: object) -> None:
        """Replace a call by what a function of the table makes of it, or by a stand-in."""
        if callable(function) and type(arguments) is tuple:
            self._push(function(*arguments))
        else:
            self._push(Unknown(function.name) if isinstance(function, Unknown) else Unknown())


def plain_dict(values: list[Any]) -> dict[str | int, Any]:
    """Return the dictionary of keys and values that alternate, without the keys that are neither text nor small."""
    if len(values) % 2:
        raise ValueError("a dictionary of it has a key without a value")
    pairs = zip(values[::2], values[1::2], strict=True)
    return {key: value for key, value in pairs if type(key) is str or (type(key) is int and abs(key) < 2**60)}
