"""Read the original authors' PyTorch checkpoints without running anything in them.

A checkpoint is a zip of numbers and a pickle, and a pickle is a program; `zoo.pickled` reads it
without running it. Here its zip is checked, and the numbers become tensors. PyTorch's own
`torch.load`, with `weights_only`, cannot do this: the published file is a whole pickled module,
whose classes it refuses, and it does not bound the memory that a file may claim.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor

from stem_core.errors import ModelFileError
from zoo.pickled import (
    AGAIN,
    RESAVE,
    Described,
    Refused,
    Storage,
    Thing,
    follow,
    refuse,
    shown_text,
)

__all__ = ["Checkpoint", "read_checkpoint"]

MOST_PICKLE_BYTES = 2_000_000  # the published size with its optimiser takes 0.1 million
MOST_ENTRIES = 100_000  # modules and tensors; the published size has a few hundred
MOST_DEEP = 100  # modules in modules
MOST_DIMENSIONS = 8
MOST_NAME = 1_000  # characters
DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.DoubleStorage": torch.float64,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # of a pickle, then torch's magic


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what the file says about the network they belong to.

    Attributes
    ----------
    tensors
        By parameter name, without the prefixes of data-parallel (`module.`) and compiled
        (`_orig_mod.`) models; float32 on the CPU, contiguous, each with memory of its own. Shapes
        are those of the file; whether values are finite is not checked.
    heads
        Attention heads per block, or None where the file does not say.
    kind
        `training` for a dictionary with `model` or `ema`, `model` for a whole model or a state
        dict alone.
    weights
        Which these are: the trained weights, or their exponential moving average.
    settings
        Numbers and strings among the training's arguments (`args`), if the file has any.
    sha256
        Of the file, in hexadecimal.
    """

    tensors: dict[str, Tensor]
    heads: int | None
    kind: Literal["model", "training"]
    weights: Literal["model", "ema"]
    settings: dict[str, int | float | str]
    sha256: str


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _walk(node: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield modules (under a name that ends in a dot) and, as state_dict() names them, entries."""
    if depth > MOST_DEEP:
        refuse(f"has modules more than {MOST_DEEP} deep in each other")
    if len(prefix) > MOST_NAME:
        refuse(f"has a module with a name of more than {MOST_NAME:,} characters")
    if isinstance(node, dict) and not depth:
        yield from node.items()
        return
    yield f"{prefix}.", node
    state = _dict(getattr(node, "state", None))
    dot = f"{prefix}." if prefix else ""
    left_out = state.get("_non_persistent_buffers_set")
    left_out = [k for k in left_out[:100] if type(k) is str] if isinstance(left_out, list) else []
    for key, value in _dict(state.get("_parameters")).items():
        yield f"{dot}{key}", value
    for key, value in _dict(state.get("_buffers")).items():
        yield f"{dot}{key}", None if key in left_out else value
    for key, child in _dict(state.get("_modules")).items():
        yield from _walk(child, f"{dot}{key}", depth + 1)


def _plain_name(name: str) -> str:
    while name.startswith(("module.", "_orig_mod.")):
        name = name.partition(".")[2]
    return name.replace("._orig_mod.", ".")


def _heads(said: object) -> set[int]:
    return {said} if type(said) is int and said > 0 else set()


def _collect(node: object) -> tuple[dict[str, Described], int | None]:
    """Find the tensors of a state dict or module, and the number of its attention heads."""
    found: dict[str, Described] = {}
    heads: set[int] = set()
    for count, (name, value) in enumerate(_walk(node)):
        if count > MOST_ENTRIES:
            refuse(f"lists more than {MOST_ENTRIES:,} modules and tensors")
        if not isinstance(name, str) or len(name) > MOST_NAME:
            refuse("has an entry whose name cannot be that of a weight", RESAVE)
        if isinstance(value, Described):
            plain = _plain_name(name)
            if plain in found:
                refuse(f"holds the weight {shown_text(plain)} twice", RESAVE)
            found[plain] = value
        elif isinstance(value, Thing) and name.endswith("."):
            if "qkv" in _dict(value.state.get("_modules")):
                heads |= _heads(value.state.get("num_heads"))
        elif value is not None:
            refuse(f"holds no plain tensor under the name {shown_text(name)}", RESAVE)
    if not found:
        refuse("holds no weights", RESAVE)
    if len(heads) > 1:
        refuse("has blocks with different numbers of attention heads", "use another file")
    return found, next(iter(heads), None)


def _select(
    root: object, weights: Literal["auto", "ema", "model"]
) -> tuple[object, Literal["model", "training"], Literal["model", "ema"]]:
    """Find the weights asked for in what the pickle holds."""
    if not isinstance(root, dict | Thing):
        refuse("holds neither a model nor a state dict", RESAVE)
    there = {k: v for k, v in _dict(root).items() if k in ("ema", "model")}
    there = {k: v for k, v in there.items() if v and isinstance(v, dict | Thing)}
    if not there and weights == "ema":
        refuse("holds one set of weights and no EMA of it", "ask for its only weights")
    if not there:
        return root, "model", "model"
    which = weights if weights != "auto" else "ema" if "ema" in there else "model"
    if which not in there:
        refuse(f"holds no '{which}' weights", f"ask for its '{next(iter(there))}' weights")
    return there[which], "training", which


def _settings(root: object) -> dict[str, int | float | str]:
    args = _dict(root).get("args")
    if isinstance(args, Thing) and args.name == "argparse.Namespace":
        args = args.state
    return {
        key: value
        for key, value in _dict(args).items()
        if isinstance(key, str) and isinstance(value, int | float | str)
    }


def _count(name: str, tensor: Described, most: int) -> int:
    """Check that the tensor lies in its storage, of `most` values or fewer, and count its own."""
    storage, size, stride, offset = tensor.storage, tensor.size, tensor.stride, tensor.offset
    if not isinstance(storage, Storage) or storage.kind not in DTYPES:
        kind = storage.kind if isinstance(storage, Storage) else "something else"
        refuse(f"keeps {shown_text(name)} as {shown_text(kind)}, which is not read here", RESAVE)
    if not (
        isinstance(size, tuple)
        and isinstance(stride, tuple)
        and len(size) == len(stride) <= MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n <= most for n in (*size, *stride, offset, storage.numel))
    ):
        refuse(f"gives {shown_text(name)} a size, stride or offset that cannot be")
    values = math.prod(size)
    last = int(offset) + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if values and last >= storage.numel:
        refuse(f"places {shown_text(name)} outside the {storage.numel:,} values it is stored among")
    return values


def _values(archive: zipfile.ZipFile, member: str, name: str, storage: Storage) -> Tensor:
    """Read a storage: its `numel` values, in its own precision."""
    dtype = DTYPES[storage.kind]
    needed = storage.numel * dtype.itemsize
    if member not in archive.NameToInfo:
        refuse(f"has no values of {shown_text(name)}")
    raw = bytearray(archive.read(member))
    if len(raw) < needed:
        refuse(f"has {len(raw):,} bytes for {shown_text(name)} where {needed:,} are needed")
    if not needed:
        return torch.zeros(0, dtype=dtype)
    if dtype is torch.bool:  # any byte but 0 is true
        return torch.frombuffer(raw, dtype=torch.uint8, count=storage.numel) != 0
    return torch.frombuffer(raw, dtype=dtype, count=storage.numel)


def _tensors(
    archive: zipfile.ZipFile, folder: str, found: dict[str, Described], file_bytes: int
) -> dict[str, Tensor]:
    values = sum(_count(name, tensor, file_bytes) for name, tensor in found.items())
    if values > file_bytes:
        refuse(f"claims {values:,} values in a file of {file_bytes:,} bytes")
    sharing: dict[str, list[str]] = {}
    for name, tensor in found.items():
        sharing.setdefault(tensor.storage.key, []).append(name)
    tensors = dict.fromkeys(found, torch.empty(0))  # in the order of the file
    for key, names in sharing.items():
        storage = found[names[0]].storage
        flat = _values(archive, f"{folder}/data/{key}", names[0], storage)
        for name in names:
            this = found[name]
            if (this.storage.kind, this.storage.numel) != (storage.kind, storage.numel):
                refuse(f"describes what {shown_text(name)} is stored in twice, differently")
            view = flat.as_strided(this.size, this.stride, this.offset)
            tensors[name] = view.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return tensors


def _open(file: IO[bytes], file_bytes: int) -> tuple[zipfile.ZipFile, str]:
    """Open the archive, and name the folder in it that holds everything."""
    start = file.read(len(LEGACY_START))
    if start == LEGACY_START:
        refuse("has the format of PyTorch before 1.6", "save it again with a newer PyTorch")
    if not start.startswith(b"PK\x03\x04"):
        refuse("is not a PyTorch checkpoint", "choose a file written with torch.save")
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in members):
        refuse("is a TorchScript archive, a program and not weights", RESAVE)
    folders = [name[: -len("/data.pkl")] for name in members if name.endswith("/data.pkl")]
    if len(folders) != 1:
        refuse("is a zip file but no PyTorch checkpoint", "choose a file written with torch.save")
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            refuse(f"is compressed ({shown_text(name)}), which PyTorch never does")
    if sum(info.file_size for info in archive.infolist()) > file_bytes:
        refuse("claims to hold more bytes than it has")
    if members[f"{folders[0]}/data.pkl"].file_size > MOST_PICKLE_BYTES:
        refuse(f"describes its weights in more than {MOST_PICKLE_BYTES:,} bytes", RESAVE)
    order = f"{folders[0]}/byteorder"
    if order in members and archive.read(order) != b"little":
        refuse("was written on a big-endian machine, which is not read here", RESAVE)
    return archive, folders[0]


def _read(path: Path, weights: Literal["auto", "ema", "model"]) -> Checkpoint:
    if not path.is_file():
        refuse("is missing or not a file", "check its path")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file_bytes = file.tell()
        file.seek(0)
        archive, folder = _open(file, file_bytes)
        root = follow(archive.read(f"{folder}/data.pkl"))
        node, kind, which = _select(root, weights)
        found, heads = _collect(node)
        tensors = _tensors(archive, folder, found, file_bytes)
    settings = _settings(root)
    for name in ("num_heads", "heads"):
        heads = heads or next(iter(_heads(settings.get(name))), None)
    return Checkpoint(tensors, heads, kind, which, settings, sha256)


def read_checkpoint(path: Path, *, weights: Literal["auto", "ema", "model"] = "auto") -> Checkpoint:
    """Read the weights in a file of `torch.save`, whoever made it, without running any of it.

    Parameters
    ----------
    path
        A whole model, a state dict, or a training checkpoint with `model` or `ema` (each a state
        dict or a model), as PyTorch writes them since version 1.6.
    weights
        Which weights of a training checkpoint: `auto` takes the EMA where there is one.

    Returns
    -------
    Checkpoint
        Tensors in float32. The time and memory this takes are bounded by the file's size.

    Raises
    ------
    ModelFileError
        The file is not such a checkpoint, is damaged, does not have the weights asked for, or names
        something weights do not need.
    """
    try:
        return _read(path, weights)
    except Refused as error:
        msg = f"The checkpoint {path.name} {error}."
        raise ModelFileError(msg) from error
    except MemoryError as error:
        msg = f"The checkpoint {path.name} does not fit into memory; close other programs."
        raise ModelFileError(msg) from error
    except OSError as error:
        msg = f"The checkpoint {path.name} cannot be read ({error.strerror}); check the file."
        raise ModelFileError(msg) from error
    except (
        *(ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError),
        *(ValueError, struct.error, zipfile.BadZipFile),
    ) as error:
        reason = f" ({shown_text(error)})" if isinstance(error, zipfile.BadZipFile) else ""
        msg = f"The checkpoint {path.name} is cut short or damaged{reason}; {AGAIN}."
        raise ModelFileError(msg) from error
