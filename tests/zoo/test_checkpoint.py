from __future__ import annotations

import argparse
import copy
import copyreg
import hashlib
import io
import os
import pickle
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stem_core.diffusion.denoiser import Denoiser
from stem_core.errors import ModelFileError
from stem_core.model.config import DenoiserConfig
from tests.zoo.published import write_training_checkpoint, write_whole_model
from zoo.checkpoint import read_checkpoint

TINY = {"genes": 7, "condition_width": 10, "depth": 2, "width": 8, "heads": 2}
SIZE = DenoiserConfig(**TINY)


def assert_same(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(tensors) == list(expected)
    for name, value in tensors.items():
        assert value.dtype == torch.float32
        assert value.is_contiguous()
        assert type(value) is Tensor
        assert torch.equal(value, expected[name].float()), name
    places = [value.untyped_storage().data_ptr() for value in tensors.values()]
    assert len(set(places)) == len(places)


def refused(path: Path, **how: Any) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_checkpoint(path, **how)
    sentence = str(caught.value)
    assert sentence.startswith(f"The checkpoint {path.name} ")
    assert sentence.endswith(".")
    assert sentence.count("; ") == 1, "what and why; what to do"
    assert "\n" not in sentence
    return sentence


# --- what the authors publish


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_whole_model_comes_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pt"
    expected = write_whole_model(path, **TINY, protocol=protocol)
    found = read_checkpoint(path)
    assert_same(found.tensors, expected)
    assert (found.heads, found.kind, found.weights, found.settings) == (2, "model", "model", {})
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("protocol", [2, 4])
def test_training_checkpoint_comes_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "0300000.pt"
    model, ema = write_training_checkpoint(path, **TINY, protocol=protocol)
    found = read_checkpoint(path)
    assert_same(found.tensors, ema)
    assert (found.heads, found.kind, found.weights) == (None, "training", "ema")
    found = read_checkpoint(path, weights="model")
    assert_same(found.tensors, model)
    assert found.weights == "model"


def test_published_size_is_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    expected = write_whole_model(path)
    start_s = time.perf_counter()
    found = read_checkpoint(path)
    assert time.perf_counter() - start_s < 10
    assert_same(found.tensors, expected)
    assert found.heads == 6
    assert found.tensors["blocks.11.attn.qkv.weight"].shape == (1152, 384)


def test_names_are_those_of_our_denoiser(tmp_path: Path) -> None:
    write_whole_model(tmp_path / "model.pt", **TINY)
    found = read_checkpoint(tmp_path / "model.pt")
    assert set(found.tensors) == set(Denoiser(SIZE).state_dict())


@pytest.mark.parametrize("write", [write_whole_model, write_training_checkpoint])
def test_our_denoiser_loads_what_was_read(tmp_path: Path, write: Callable[..., Any]) -> None:
    denoiser = Denoiser(SIZE)
    write(tmp_path / "model.pt", **TINY, like=denoiser)
    found = read_checkpoint(tmp_path / "model.pt")
    denoiser.load_state_dict(found.tensors, strict=True)
    x = torch.randn(3, 1, SIZE.genes)
    with torch.no_grad():
        noise, _ = denoiser(x, torch.zeros(3), torch.randn(3, SIZE.condition_width))
    assert bool(torch.isfinite(noise).all())


def test_nothing_of_theirs_is_imported(tmp_path: Path) -> None:
    write_whole_model(tmp_path / "model.pt", **TINY)
    before = set(sys.modules)
    read_checkpoint(tmp_path / "model.pt")
    assert not {m for m in set(sys.modules) - before if m.split(".")[0] in {"Stem", "timm"}}
    assert "Stem.models" not in sys.modules


def test_arguments_of_the_training(tmp_path: Path) -> None:
    args = argparse.Namespace(num_heads=2, lr=1e-4, model="Stem", slides=["a"], seed=None)
    simple = {"num_heads": 2, "lr": 1e-4, "model": "Stem"}
    for given in (args, vars(args)):
        write_training_checkpoint(tmp_path / "model.pt", **TINY, args=given)
        found = read_checkpoint(tmp_path / "model.pt")
        assert found.settings == simple
        assert found.heads == 2


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_are_removed(tmp_path: Path, prefix: str) -> None:
    _, ema = write_training_checkpoint(tmp_path / "model.pt", **TINY, prefix=prefix)
    assert_same(read_checkpoint(tmp_path / "model.pt").tensors, ema)


def test_a_name_that_occurs_with_and_without_its_prefix(tmp_path: Path) -> None:
    torch.save({"module.w": torch.ones(2), "w": torch.ones(2)}, tmp_path / "model.pt")
    assert "holds the weight w twice" in refused(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = write_whole_model(tmp_path / "model.pt", **TINY, dtype=dtype)
    assert expected["label_embed.0.weight"].dtype == dtype
    assert_same(read_checkpoint(tmp_path / "model.pt").tensors, expected)


def test_integers_and_booleans(tmp_path: Path) -> None:
    state = {
        "int64": torch.tensor([[-3, 5]]),
        "int32": torch.tensor([-3, 5], dtype=torch.int32),
        "uint8": torch.tensor([0, 200], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
    }
    torch.save(state, tmp_path / "model.pt")
    assert_same(read_checkpoint(tmp_path / "model.pt").tensors, state)


def test_bare_state_dict_with_metadata(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    torch.save(state, tmp_path / "model.pt")
    found = read_checkpoint(tmp_path / "model.pt")
    assert_same(found.tensors, dict(state))
    assert (found.kind, found.weights, found.heads) == ("model", "model", None)


def test_views_of_one_storage(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    state = {
        "whole": base.view(4, 6),
        "turned": base.view(4, 6).T,
        "strided": base[1::5],
        "again": base.view(4, 6),
        "spread": torch.tensor([3.0]).expand(2, 5),
    }
    torch.save(state, tmp_path / "model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 2
    assert_same(read_checkpoint(tmp_path / "model.pt").tensors, state)


def test_modules_in_place_of_state_dicts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, ema = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({"model": model, "ema": ema, "steps": 5}, tmp_path / "model.pt")
    found = read_checkpoint(tmp_path / "model.pt")
    assert_same(found.tensors, ema.state_dict())
    assert found.kind == "training"


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_whole_model(path, **TINY)
    assert "one set of weights and no EMA" in refused(path, weights="ema")
    torch.save({"ema": {"w": torch.ones(2)}, "model": {}}, path)
    assert read_checkpoint(path).weights == "ema"
    assert "holds no 'model' weights; ask for its 'ema' weights" in refused(path, weights="model")
    torch.save({"ema": {}, "model": {"w": torch.ones(2)}}, path)
    assert read_checkpoint(path).weights == "model"


@pytest.mark.parametrize("what", [[torch.ones(2)], torch.ones(2), 3, None, "text"])
def test_no_state_dict_inside(tmp_path: Path, what: Any) -> None:
    torch.save(what, tmp_path / "model.pt")
    assert "holds neither a model nor a state dict" in refused(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({}, "holds no weights"),
        (nn.SiLU(), "holds no weights"),
        ({"w": torch.ones(2), "step": 3}, "holds no plain tensor under the name step"),
        ({"a": {"w": torch.ones(2)}}, "holds no plain tensor under the name a"),
        ({"w": torch.ones(2), 3: torch.ones(2)}, "whose name cannot be that of a weight"),
        ({"w": torch.ones(3, 3).to_sparse()}, "holds no plain tensor under the name w"),
        ({"w": torch.ones(2, dtype=torch.int8)}, "keeps w as torch.CharStorage"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "keeps w as torch.ComplexFloatStorage"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj().imag}, "no plain tensor"),
    ],
    ids=["empty", "no-weights", "number", "nested", "integer", "sparse", "int8", "complex", "neg"],
)
def test_entries_that_are_no_weights(tmp_path: Path, what: Any, why: str) -> None:
    torch.save(what, tmp_path / "model.pt")
    assert why in refused(tmp_path / "model.pt")


def test_blocks_that_disagree_about_heads(tmp_path: Path) -> None:
    from tests.zoo import published

    model = published.StemModel(*TINY.values())
    model.blocks[1].attn.num_heads = 4
    with published._modules_of_the_authors():
        torch.save(model, tmp_path / "model.pt")
    assert "different numbers of attention heads" in refused(tmp_path / "model.pt")


# --- files that are something else, or damaged


def test_no_file(tmp_path: Path) -> None:
    assert "is missing or not a file; check its path" in refused(tmp_path / "model.pt")
    assert "is missing or not a file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is missing or not a file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"PK", b"<!DOCTYPE html>", bytes(1000)])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert "is not a PyTorch checkpoint; choose a file" in refused(tmp_path / "model.pt")


def test_plain_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip file but no PyTorch checkpoint" in refused(tmp_path / "model.pt")


def test_legacy_format(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert "has the format of PyTorch before 1.6; save it again" in refused(path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "model.pt")
    assert "is a TorchScript archive" in refused(tmp_path / "model.pt")


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_whole_model(path, **TINY)
    content = path.read_bytes()
    for length in range(len(content) - 1, 20, -len(content) // 40):
        path.write_bytes(content[:length])
        assert "is cut short or damaged" in refused(path)


def test_flipped_bytes_in_weights_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.full((50,), 1.5)}, path)
    content = path.read_bytes()
    at = content.index(struct.pack("<f", 1.5) * 4)
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    assert "is cut short or damaged (Bad CRC-32" in refused(path)


def test_damage_never_ends_in_anything_but_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_training_checkpoint(path, genes=2, condition_width=2, depth=1, width=2, heads=1)
    with zipfile.ZipFile(path) as archive:
        members = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickled = members.pop("data.pkl")
    content = path.read_bytes()
    dice = random.Random(0)
    for trial in range(400):
        damaged = bytearray(pickled if trial % 2 else content)
        for _ in range(dice.choice([1, 1, 3, 20])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        if trial % 2:
            pack(path, bytes(damaged), members)
        else:
            path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except ModelFileError as error:
            assert str(error).startswith("The checkpoint model.pt ")


# --- made by hand: a pickle, instruction by instruction


def pack(
    path: Path,
    pickled: bytes,
    members: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in {"byteorder": b"little", "version": b"3\n", **(members or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    raw = pickle.encode_long(value)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(integer(value) for value in values) + b"t"


def tensor(
    numel: int,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    kind: str = "torch.FloatStorage",
    key: str = "0",
) -> bytes:
    storage = b"(" + text("storage") + name(kind) + text(key) + text("cpu") + integer(numel) + b"tQ"
    return (
        name("torch._utils._rebuild_tensor_v2")
        + (b"(" + storage + integer(offset) + integers(size) + integers(stride) + b"\x89")
        + (name("collections.OrderedDict") + b")RtR")
    )


def state(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def weights(pickled: bytes) -> bytes:
    return b"\x80\x02" + state({"w": pickled}) + b"."


SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)


def test_handmade_checkpoint_is_right(tmp_path: Path) -> None:
    """The next tests spoil this one."""
    path = pack(tmp_path / "model.pt", weights(tensor(6, 0, (2, 3), (3, 1))), {"data/0": SIX})
    found = read_checkpoint(path)
    assert_same(found.tensors, {"w": torch.arange(6.0).view(2, 3)})
    assert torch.equal(torch.load(path)["w"], found.tensors["w"])
    path = pack(tmp_path / "model.pt", weights(tensor(6, 1, (2, 2), (3, 1))), {"data/0": SIX})
    assert read_checkpoint(path).tensors["w"].tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("described", "why"),
    [
        (tensor(6, 1, (2, 3), (3, 1)), "places w outside the 6 values"),
        (tensor(6, 0, (2, 3), (4, 1)), "places w outside the 6 values"),
        (tensor(6, 6, (1,), (1,)), "places w outside the 6 values"),
        (tensor(6, 60, (), ()), "places w outside the 6 values"),
        (tensor(6, -1, (2, 3), (3, 1)), "a size, stride or offset that cannot be"),
        (tensor(6, 5, (2,), (-1,)), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (-2, -3), (3, 1)), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (2, 3), (1,)), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (1,) * 9, (1,) * 9), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (2**62, 2**62), (0, 0)), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (0, 2**62), (1, 1)), "a size, stride or offset that cannot be"),
        (tensor(-6, 0, (), ()), "a size, stride or offset that cannot be"),
        (tensor(6, 0, (100, 100), (0, 0)), "claims 10,000 values in a file of"),
        (tensor(7, 0, (7,), (1,)), "has 24 bytes for w where 28 are needed"),
        (tensor(6, 0, (6,), (1,), kind="torch.DoubleStorage"), "has 24 bytes for w where 48"),
        (tensor(6, 0, (6,), (1,), key="1"), "has no values of w"),
        (tensor(6, 0, (6,), (1,), key="../data.pkl"), "has no values of w"),
        (tensor(6, 0, (6,), (1,), kind="torch.load"), "keeps w as torch.load"),
        (tensor(6, 0, (6,), (1,), kind="torch.QInt8Storage"), "keeps w as torch.QInt8Storage"),
        (tensor(6, 0, (6,), (1,)).replace(b"\x89", b"\x89N"), "holds no plain tensor"),
        (
            tensor(6, 0, (1,), (1,)) + text("v") + tensor(5, 0, (1,), (1,)),
            "describes what v is stored in twice",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, described: bytes, why: str) -> None:
    assert why in refused(pack(tmp_path / "model.pt", weights(described), {"data/0": SIX}))


def test_any_byte_but_zero_is_true(tmp_path: Path) -> None:
    described = tensor(3, 0, (3,), (1,), kind="torch.BoolStorage")
    pack(tmp_path / "model.pt", weights(described), {"data/0": b"\0\x01\x7f"})
    assert read_checkpoint(tmp_path / "model.pt").tensors["w"].tolist() == [0, 1, 1]


def test_other_byte_order(tmp_path: Path) -> None:
    pickled, path = weights(tensor(6, 0, (6,), (1,))), tmp_path / "model.pt"
    pack(path, pickled, {"data/0": SIX, "byteorder": b"big"})
    assert "was written on a big-endian machine" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:  # as PyTorch before 2.1
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", SIX)
    assert read_checkpoint(path).tensors["w"].tolist() == [0, 1, 2, 3, 4, 5]


def test_compressed_members(tmp_path: Path) -> None:
    pickled = weights(tensor(10**8, 0, (10**8,), (1,)))
    for member in ("data/0", "other"):
        with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr(f"archive/{member}", bytes(10**7), zipfile.ZIP_DEFLATED)
        assert f"is compressed (archive/{member})" in refused(tmp_path / "model.pt")


def test_members_that_overlap(tmp_path: Path) -> None:
    """Every member is the same ten thousand bytes: a bomb without compression."""
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", weights(tensor(2500, 0, (2500,), (1,))))
        archive.writestr("archive/data/0", bytes(10_000))
        for index in range(1, 20):
            again = copy.copy(archive.getinfo("archive/data/0"))
            again.filename = f"archive/data/{index}"
            archive.filelist.append(again)
    assert "claims to hold more bytes than it has" in refused(path)


def test_two_pickles(tmp_path: Path) -> None:
    path = pack(tmp_path / "model.pt", weights(tensor(6, 0, (6,), (1,))), {"data/0": SIX})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"\x80\x02N.")
    assert "is a zip file but no PyTorch checkpoint" in refused(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02",
        b".",
        b"\x80\x02}",
        b"\x80\x02h\x05.",
        b"\x80\x02}h\x00.",
        b"\x80\x02t.",
        b"\x80\x02R.",
        b"\x80\x02)R.",
        b"\x80\x02NN\x81.",
        b"\x80\x02)Q.",
        b"\x80\x02Nb.",
        b"\x80\x02N(NNe.",
        b"\x80\x02}(Nu.",
        b"\x80\x02ctorch\n.",
        b"\x80\x02ctorch\n\xff\n.",
        b"\x80\x04NN\x93.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02\xfe.",
        b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    ],
)
def test_pickles_that_make_no_sense(tmp_path: Path, pickled: bytes) -> None:
    refused(pack(tmp_path / "model.pt", pickled))


# --- made to do harm


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def by_stack(module: str, last: str) -> bytes:
    return b"\x8c" + bytes([len(module)]) + module.encode() + (
        b"\x8c" + bytes([len(last)]) + last.encode() + b"\x93"
    )  # fmt: skip


class Runs:
    """Pickled, it asks to call `function` with `args`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.plan = (function, args)

    def __reduce__(self) -> Any:
        return self.plan


def inner(target: Path) -> bytes:
    """A checkpoint of its own that makes the file, as bytes in a pickle."""
    file = io.BytesIO()
    torch.save(Runs(os.system, f"touch {target}"), file, _use_new_zipfile_serialization=False)
    return b"B" + struct.pack("<I", len(file.getvalue())) + file.getvalue()


def with_state(made: bytes, *entries: bytes) -> bytes:
    return made + b"}(" + b"".join(entries) + b"ub"


def hub(target: Path) -> bytes:
    """torch.hub.load(folder, "go", source="local"): names of PyTorch alone, and functools'."""
    (target.parent / "hubconf.py").write_text(
        f"def go():\n    open({str(target)!r}, 'w').close()\n"
    )
    load = name("torch.hub.load")
    args = b"(" + text(str(target.parent)) + text("go") + b"t"
    partial = name("functools.partial") + b"(" + load + b"tR(" + load + args
    return call(partial + state({"source": text("local")}) + b"Ntb")


SHELL = name("torch.utils.collect_env.run")
INERT = "holds no weights"

# What makes the file in an unpickler, by the pickle's protocol, and why it is refused here.
HARM: dict[str, tuple[int, Callable[[Path], bytes], str]] = {
    "posix": (2, lambda p: call(name("posix.system"), text(f"touch {p}")), "posix.system"),
    "os": (2, lambda p: call(name("os.system"), text(f"touch {p}")), "os.system"),
    "os by stack": (4, lambda p: call(by_stack("os", "system"), text(f"touch {p}")), "os.system"),
    "eval": (
        2,
        lambda p: call(name("__builtin__.eval"), text(f"open({str(p)!r}, 'w')")),
        "builtins.eval",
    ),
    "exec": (
        4,
        lambda p: call(by_stack("builtins", "exec"), text(f"open({str(p)!r}, 'w')")),
        "builtins.exec",
    ),
    "open": (2, lambda p: call(name("io.open"), text(str(p)), text("w")), "io.open"),
    "call": (
        2,
        lambda p: call(name("subprocess.call"), b"](" + text("touch") + text(str(p)) + b"e"),
        "subprocess.call",
    ),
    "Popen": (
        2,
        lambda p: call(name("subprocess.Popen"), b"](" + text("touch") + text(str(p)) + b"e"),
        "subprocess.Popen",
    ),
    "getattr": (
        2,
        lambda p: call(
            call(
                name("__builtin__.getattr"),
                call(name("importlib.import_module"), text("os")),
                text("system"),
            ),
            text(f"touch {p}"),
        ),
        "builtins.getattr",
    ),
    "nested": (
        2,
        lambda p: state({"model": state({"w": call(name("posix.system"), text(f"touch {p}"))})}),
        "posix.system",
    ),
    "in a module": (
        2,
        lambda p: with_state(
            name("torch.nn.modules.linear.Linear") + b")\x81",
            text("_parameters") + state({"w": call(name("posix.system"), text(f"touch {p}"))}),
        ),
        "posix.system",
    ),
    "__setstate__": (
        2,
        lambda p: (
            with_state(
                name("argparse.Namespace") + b")\x81", text("__setstate__") + name("posix.system")
            )
            + (text(f"touch {p}") + b"b")
        ),
        "posix.system",
    ),
    "extension": (2, lambda p: call(b"\x82\xf0", text(f"touch {p}")), "instruction EXT1"),
    "INST": (0, lambda p: f"(S'touch {p}'\niposix\nsystem\n".encode(), "instruction STRING"),
    "INST, OBJ": (
        2,
        lambda p: b"(" + text(f"touch {p}") + b"iposix\nsystem\n",
        "instruction INST",
    ),
    "OBJ": (2, lambda p: b"(" + name("posix.system") + text(f"touch {p}") + b"o", "posix.system"),
    "OBJ of torch": (2, lambda p: b"(" + SHELL + text(f"touch {p}") + b"o", "instruction OBJ"),
    "pickle": (
        3,
        lambda p: call(name("torch.storage._load_from_bytes"), inner(p)),
        INERT,
    ),
    "dotted": (
        4,
        lambda p: call(by_stack("torch", "os.system"), text(f"touch {p}")),
        "torch.os.system",
    ),
    "dotted far": (
        4,
        lambda p: call(by_stack("torch.hub", "os.system"), text(f"touch {p}")),
        "torch.hub.os.system",
    ),
    "of torch": (2, lambda p: call(SHELL, text(f"touch {p}")), INERT),
    "of torch, nested": (
        2,
        lambda p: state({"w": call(SHELL, text(f"touch {p}"))}),
        "no plain tensor under the name w",
    ),
    "of torch, as key": (2, lambda p: b"}" + call(SHELL, text(f"touch {p}")) + b"Ns", INERT),
    "of torch, as state": (
        2,
        lambda p: (
            with_state(name("argparse.Namespace") + b")\x81", text("__setstate__") + SHELL)
            + (text(f"touch {p}") + b"b")
        ),
        INERT,
    ),
    "torch.hub": (2, hub, INERT),
}


def runs_in_an_unpickler(pickled: bytes, target: Path) -> bool:
    copyreg.add_extension("posix", "system", 0xF0)
    try:
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001
        pass  # what comes after the harm need not make sense
    finally:
        copyreg.remove_extension("posix", "system", 0xF0)
    for _ in range(100):
        if target.exists():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", HARM)
def test_harm(tmp_path: Path, kind: str) -> None:
    protocol, make, why = HARM[kind]
    target = tmp_path / "harm"
    pickled = (bytes([0x80, protocol]) if protocol else b"") + make(target) + b"."
    copyreg.add_extension("posix", "system", 0xF0)
    try:
        assert why in refused(pack(tmp_path / "model.pt", pickled))
        for weights_asked in ("ema", "model"):
            refused(tmp_path / "model.pt", weights=weights_asked)
    finally:
        copyreg.remove_extension("posix", "system", 0xF0)
    time.sleep(0.05)
    assert not target.exists()
    assert runs_in_an_unpickler(pickled, target), "else this shows nothing"


@pytest.mark.parametrize(
    "asked",
    [
        *("builtins.getattr", "builtins.__import__", "builtins.list", "builtins.type"),
        *("nt.system", "sys.modules", "importlib.import_module", "pickle.loads", "_pickle.loads"),
        *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy.dtype"),
        *("_codecs.encode", "operator.attrgetter", "types.CodeType", "functools.reduce"),
        *("collections.defaultdict", "argparse.ArgumentParser", "copyreg.__newobj__"),
        *("copyreg.add_extension", "zoo.checkpoint._call", "stem_core.errors.StemError"),
        *("torchvision.models.resnet18", "torchx.run", "timmy.x", "Stemming.x", "__main__.Model"),
        *("stem.models.StemModel", "models.StemModel", "pathlib.PosixPath"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, asked: str) -> None:
    sentence = refused(pack(tmp_path / "model.pt", b"\x80\x02" + name(asked) + b"."))
    assert f"asks for {asked}, which weights do not need, and none of it was run" in sentence


def test_a_name_is_shown_on_one_line_and_not_whole(tmp_path: Path) -> None:
    evil = "os." + "\x1b[31m\u202e" + "x" * 10_000
    pickled = b"\x80\x04" + text("nt") + b"X" + struct.pack("<I", len(evil.encode()))
    sentence = refused(pack(tmp_path / "model.pt", pickled + evil.encode() + b"\x93."))
    assert "asks for nt.os.?[31m?xxx" in sentence
    assert len(sentence) < 300


@pytest.mark.parametrize("what", ["torch._utils._rebuild_tensor_v2", "collections.OrderedDict"])
def test_state_of_a_class_or_function_is_not_set(tmp_path: Path, what: str) -> None:
    from torch._utils import _rebuild_tensor_v2

    before = (_rebuild_tensor_v2.__defaults__, dict(vars(_rebuild_tensor_v2)))
    slots = b"N}(" + text("__defaults__") + b"N" + text("mark") + b"Nu\x86b"
    plain = b"}" + text("mark") + b"Nsb"
    entry = name(what) + slots + name(what) + plain + b"\x86"
    pickled = b"\x80\x02" + state({"x": entry, "model": state({"w": tensor(6, 0, (6,), (1,))})})
    pack(tmp_path / "model.pt", pickled + b".", {"data/0": SIX})
    assert list(read_checkpoint(tmp_path / "model.pt").tensors) == ["w"]
    assert (_rebuild_tensor_v2.__defaults__, dict(vars(_rebuild_tensor_v2))) == before
    assert not hasattr(_rebuild_tensor_v2, "mark")


def test_a_dictionary_keeps_its_methods(tmp_path: Path) -> None:
    """State given to an OrderedDict is dropped: no `items` of its own is ever called."""
    entries = name("collections.OrderedDict") + b")R" + text("w") + tensor(6, 0, (6,), (1,)) + b"s"
    pickled = b"\x80\x02" + with_state(entries, text("items") + SHELL) + b"."
    pack(tmp_path / "model.pt", pickled, {"data/0": SIX})
    assert list(read_checkpoint(tmp_path / "model.pt").tensors) == ["w"]


def test_old_ways_to_make_an_object(tmp_path: Path) -> None:
    made = call(
        name("copy_reg._reconstructor"), name("torch.nn.Linear"), name("__builtin__.object"), b"N"
    )
    entries = text("_parameters") + state({"w": tensor(6, 0, (6,), (1,))})
    pack(tmp_path / "a.pt", b"\x80\x02" + with_state(made, entries) + b".", {"data/0": SIX})
    assert list(read_checkpoint(tmp_path / "a.pt").tensors) == ["w"]
    made = name("torch.nn.Linear") + b")}" + text("kind") + SHELL + b"s\x92"
    pack(tmp_path / "b.pt", b"\x80\x04" + with_state(made, entries) + b".", {"data/0": SIX})
    assert list(read_checkpoint(tmp_path / "b.pt").tensors) == ["w"]


# --- made to take for ever, to fill the memory, or to end the process


def module(children: bytes) -> bytes:
    return with_state(name("torch.nn.Module") + b")\x81", text("_modules") + children)


def doubling(times: int) -> bytes:
    """Leave in memo 0 a tuple with 2 to the power of `times` ends."""
    return b")q\0" + b"h\0h\0\x86q\0" * times


def doubling_modules(times: int) -> bytes:
    two = state({"a": b"h\0", "b": b"h\0"})
    return module(b"}") + b"q\0" + (module(two) + b"q\0") * times


def in_itself() -> bytes:
    return name("torch.nn.Module") + b")\x81q\0}" + text("_modules") + state({"a": b"h\0"}) + b"sb"


NEST = b")" + b"\x85" * 500_000  # to hash it takes more stack than there is
SAME_HASH = [integer(index * (2**61 - 1)) + b"N" for index in range(1, 150_000)]
EXHAUSTING = {
    "memo": (b"\x80\x02}r\xff\xff\xff\xff.", INERT),
    "tuple in tuple as key": (b"\x80\x02}" + NEST + b"Ns.", INERT),
    "tuple in tuple as name": (
        b"\x80\x04" + NEST + text("x") + b"\x93.",
        "asks for something without naming it",
    ),
    "tuple in tuple in a set": (
        b"\x80\x02"
        + with_state(
            name("torch.nn.Module") + b")\x81",
            text("_non_persistent_buffers_set") + b"]" + NEST + b"a",
        )
        + b".",
        INERT,
    ),
    "tuple in tuple as size": (
        weights(
            tensor(6, 0, (1,), (1,)).replace(integers((1,)) * 2, NEST + integers((1,))),
        ),
        "a size, stride or offset that cannot be",
    ),
    "doubling as key": (b"\x80\x02" + doubling(100) + b"}h\0Ns.", INERT),
    "copies": (
        b"\x80\x02](" + b"N" * 500_000 + b"eq\0" + name("__builtin__.set") + b"q\1}("
        + b"Nh\1h\0\x85R" * 150_000 + b"u.",
        INERT,
    ),
    "keys with one hash": (
        b"\x80\x02}(" + b"".join(SAME_HASH) + b"u.",
        INERT,
    ),
    "doubling modules": (
        b"\x80\x02" + doubling_modules(60) + b".",
        "lists more than 100,000 modules and tensors",
    ),
    "a module in itself": (b"\x80\x02" + in_itself() + b".", "more than 100 deep in each other"),
    "module in module": (
        b"\x80\x02" + module(b"}") + b"q\0"
        + (module(state({"a": b"h\0"})) + b"q\0") * 200 + b".",
        "more than 100 deep in each other",
    ),
    "a long name": (
        b"\x80\x02" + state({"x" * 1_900_000: tensor(6, 0, (6,), (1,))}) + b".",
        "an entry whose name cannot be that of a weight",
    ),
    "long names in each other": (
        b"\x80\x02" + text("x" * 900) + b"q\1" + module(b"}") + b"q\0"
        + (module(b"}h\1h\0s") + b"q\0") * 90 + b".",
        "has a module with a name of more than 1,000 characters",
    ),
    "dictionaries": (b"\x80\x02" + b"}" * 1_999_990 + b".", INERT),
    "too long": (b"\x80\x02" + b"}" * 2_000_000 + b".", "in more than 2,000,000 bytes"),
    "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "is cut short or damaged"),
    "a short bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1) + b"x.", "BYTEARRAY8"),
    "a long integer": (b"\x80\x02\x8b" + struct.pack("<I", 9) + b"x" * 9 + b".", "LONG4"),
    "a duplicate": (b"\x80\x02}2.", "DUP"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", EXHAUSTING)
def test_exhausting_pickles(tmp_path: Path, kind: str) -> None:
    pickled, why = EXHAUSTING[kind]
    start_s = time.perf_counter()
    assert why in refused(pack(tmp_path / "model.pt", pickled, {"data/0": SIX}))
    assert time.perf_counter() - start_s < 30
