"""Decode the pickles that PyTorch writes, running nothing of them.

`pickletools.genops` decodes a pickle's instructions, acting on none, and `follow` follows the few
that PyTorch writes, on stand-ins of its own. What the pickle names stays a name: nothing is
imported, looked up, called or set. (An unpickler with a restricted `find_class` would run nothing
either, but 68 bytes keep it busy for ever, 9 take gigabytes, and tuples in tuples as a key end the
process.)

The list of allowed names is after "Restricting Globals" in Python's documentation of pickle and
PyTorch's weights-only unpickler; to decode instead of run, after fickling and picklescan.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = [
    "AGAIN",
    "RESAVE",
    "Described",
    "Refused",
    "Storage",
    "Thing",
    "follow",
    "refuse",
    "shown_text",
]

PACKAGES = {"torch", "timm", "Stem"}
NAMES = {
    *("argparse.Namespace", "collections.OrderedDict", "functools.partial"),
    *("builtins.set", "builtins.frozenset", "builtins.object", "copyreg._reconstructor"),
}
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 calls them
AGAIN = "get the file again from where it is published"
RESAVE = "save the weights alone, with torch.save(model.state_dict(), path), and use that file"


class Refused(Exception):
    """Why a file is not read and what to do: the end of a sentence."""


@dataclass(slots=True, eq=False)
class Thing:
    """Stands for a class or function, or for what calling it would have made."""

    name: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Storage:
    """A storage a tensor lies in: the kind of its values, and its member of the zip."""

    kind: str
    key: str
    numel: Any


@dataclass(slots=True, eq=False)
class Described:
    """A tensor as the pickle describes it; nothing is checked yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


def refuse(reason: str, advice: str = AGAIN) -> NoReturn:
    """Refuse the file, with what to do about it."""
    msg = f"{reason}; {advice}"
    raise Refused(msg)


def shown_text(text: object) -> str:
    """Make a word from the file fit for a sentence."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:80])


def _thing(module: object, name: object) -> Thing:
    if not (isinstance(module, str) and isinstance(name, str)):
        refuse("asks for something without naming it")
    module = OLD_MODULES.get(module, module)
    full = f"{module}.{name}"
    if full not in NAMES and not (module.split(".")[0] in PACKAGES and name.isidentifier()):
        refuse(
            f"asks for {shown_text(full)}, which weights do not need, and none of it was run",
            "do not open it in another program unless you trust who made it",
        )
    return Thing(full)


def _call(called: object, args: object) -> Any:
    """Stand in for a call. Arguments are kept, never copied: a few bytes can name large ones."""
    if not isinstance(called, Thing):
        refuse("calls something that is not a function")
    match called.name, args:
        case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _):
            return Described(storage, offset, size, stride)
        case "torch._utils._rebuild_parameter", (Described() as tensor, _, _):
            return tensor
        case "torch._utils._rebuild_parameter_with_state", (Described() as tensor, _, _, _):
            return tensor
        case "collections.OrderedDict", ():
            return {}
        case "builtins.set" | "builtins.frozenset", (list() as items,):
            return items
        case "copyreg._reconstructor", (Thing() as made, _, _):
            return Thing(made.name)
    return Thing(called.name)


def _storage(persistent: object) -> Storage:
    match persistent:
        case ("storage", Thing() as kind, str() as key, _, numel):
            return Storage(kind.name, key, numel)
    return refuse("refers to numbers in a way PyTorch does not")


def _fill(target: object, items: list[Any], *, pairs: bool) -> None:
    """Extend a list or fill a dictionary; a thing's own items are of no use."""
    if isinstance(target, dict) and pairs:
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys are of no use, and hashing them can take for ever: tuples in tuples,
            # or long integers that all have the same hash.
            if type(key) is str or (type(key) is int and abs(key) < 2**60):
                target[key] = value
    elif isinstance(target, list) and not pairs:
        target.extend(items)
    elif not isinstance(target, Thing):
        refuse("puts items into what holds none")


def follow(pickled: bytes) -> Any:
    """Follow a pickle with plain values, lists, tuples, dictionaries and the stand-ins above."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

    def taken(start: int) -> list[Any]:
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, arg, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(arg)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(arg)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(constants[opcode.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "MARK":
                marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(taken(-int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(taken(marks.pop())))
            case "FROZENSET":
                stack.append(taken(marks.pop()))
            case "APPENDS" | "ADDITEMS" | "SETITEMS":
                items = taken(marks.pop())
                _fill(stack[-1], items, pairs=opcode.name == "SETITEMS")
            case "APPEND" | "SETITEM":
                items = taken(-1 if opcode.name == "APPEND" else -2)
                _fill(stack[-1], items, pairs=opcode.name == "SETITEM")
            case "GLOBAL":
                stack.append(_thing(*str(arg).split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_thing(*taken(-2)))
            case "REDUCE" | "NEWOBJ":
                stack.append(_call(*taken(-2)))
            case "NEWOBJ_EX":
                stack.append(_call(*taken(-3)[:2]))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Thing) and isinstance(state, dict):
                    stack[-1].state = state
            case other:
                refuse(f"uses the pickle instruction {other}, which PyTorch does not", RESAVE)
    return stack.pop()
