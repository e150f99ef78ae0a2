"""Files that `torch.save` wrote: every protocol and both formats are read, and nothing in them is run."""

import argparse
import collections
import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clapedge.errors import ModelError
from clapedge_export import pickle_machine
from clapedge_export.pickle_machine import Unknown, read_pickle
from clapedge_export.torch_file import read_tensors

PROTOCOLS = (1, 2, 3, 4, 5)


def read(content: bytes) -> object:
    """Read a pickle in which nothing has a meaning."""
    return read_pickle(io.BytesIO(content), {}, lambda _: Unknown())


class Schedule:
    """A class of the training code, which a reader does not have."""

    def __init__(self) -> None:
        self.steps = {1, 2}


def training_state() -> dict[str, Any]:
    """Make what a training run saves: shared, transposed and half tensors, an optimizer, scalars, and own classes."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    shared = torch.arange(12.0)
    return {
        "epoch": 45,
        "name": "größer",
        "best": np.float64(0.9),
        "scores": np.arange(3, dtype=np.float32),
        "arguments": argparse.Namespace(lr=1e-4, milestones=frozenset({3, 5})),
        "schedule": Schedule(),
        "large": 2**80,
        "optimizer": optimizer.state_dict(),
        "state_dict": collections.OrderedDict(
            layer.state_dict(),
            transposed=shared.reshape(3, 4).T,
            part=shared[4:7],
            half=torch.ones(2, dtype=torch.bfloat16),
            index=torch.tensor([[1, 2]]),
            parameter=torch.nn.Parameter(torch.ones(2)),
            empty=torch.empty(0, 3),
            scalar=torch.tensor(4.6),
            flags=torch.tensor([True, False]),
        ),
    }


def write(file: Path, content: bytes, **entries: bytes) -> Path:
    """Write an archive around a pickle; `entries` are its storages."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("small/data.pkl", content)
        for name, numbers in entries.items():
            archive.writestr(f"small/data/{name.removeprefix('_')}", numbers)
    return file


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before PyTorch 1.6"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_and_format_gives_the_tensors_beside_anything_else(
    tmp_path: Path, protocol: int, *, archive: bool
) -> None:
    state, file = training_state(), tmp_path / "trained.pt"
    torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    found = read_tensors(file)
    assert list(found) == list(state["state_dict"])
    for name, tensor in state["state_dict"].items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())


def test_tensors_at_the_top_are_read_as_well(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "epoch": 3}, tmp_path / "plain.bin")
    assert {name: tensor.tolist() for name, tensor in read_tensors(tmp_path / "plain.bin").items()} == {
        "weight": [1.0, 1.0]
    }


def test_only_the_models_tensors_are_read_not_those_of_the_optimizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "optimizer": {"a": torch.ones(1000)}}, tmp_path / "trained.pt")
    opened: list[str] = []
    original = zipfile.ZipFile.read

    def reading(archive: zipfile.ZipFile, name: Any) -> bytes:  # noqa: ANN401  # a name or an entry
        opened.append(getattr(name, "filename", name))
        return original(archive, name)

    monkeypatch.setattr(zipfile.ZipFile, "read", reading)
    assert list(read_tensors(tmp_path / "trained.pt")) == ["a"]
    assert [name for name in opened if "/data/" in name] == ["trained/data/0"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_file_names_is_not_called_and_not_imported(tmp_path: Path, protocol: int) -> None:
    harmed = tmp_path / "harmed"

    class Attack:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(harmed),)

    file = write(tmp_path / "attack.pt", pickle.dumps({"state_dict": {"weight": Attack()}, "x": Schedule()}, protocol))
    with pytest.raises(ModelError, match=r"holds no tensors.*only tensors are read, never code"):
        read_tensors(file)
    assert not harmed.exists()
    torch.save({"state_dict": {"weight": torch.ones(2), "attack": Attack()}}, file, pickle_protocol=protocol)
    assert list(read_tensors(file)) == ["weight"]
    assert not harmed.exists()


def written(value: object) -> bytes:
    """Write the operations that push a value."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(offset: object, size: object, stride: object, count: int = 4) -> bytes:
    """Write a pickle of one tensor that is a view of the float32 storage `0`."""
    place = b"(" + written("storage") + b"ctorch\nFloatStorage\n" + b"".join(map(written, ("0", "cpu", count))) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + b"".join(map(written, (offset, size, stride))) + b"tR"
    return b"\x80\x02}" + written("weight") + call + b"s."


def test_a_written_tensor_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "small.pt", tensor(1, (2,), (2,)), _0=np.arange(4, dtype="<f4").tobytes())
    assert read_tensors(file)["weight"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    "content",
    [
        tensor(0, (5,), (1,)),
        tensor(2, (2,), (2,)),
        tensor(-1, (2,), (1,)),
        tensor(0, (2, 2), (1,)),
        tensor(0, (2,), (-1,)),
        tensor(0, (2**40,), (0,)),
        tensor(0, (2**80,), (1,)),
        tensor(0, (True,), (1,)),
        tensor(0, [2], [1]),
        tensor(0, (1,) * 9, (1,) * 9),
        tensor(0, (2,), (1,), count=-1),
        tensor(0, (2,), (1,), count=8),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, content: bytes) -> None:
    file = write(tmp_path / "small.pt", content, _0=bytes(16))
    with pytest.raises(ModelError, match=r"small\.pt is not a file of weights, or is damaged"):
        read_tensors(file)


HOSTILE = {
    "a memo index of 4 GB": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "bytes longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.",
    "a deep list": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "a stack that is empty": b"\x80\x020.",
    "a mark that is missing": b"\x80\x02t.",
    "a memo that is empty": b"\x80\x02h\x07.",
    "no end": b"\x80\x02N",
    "a key without a value": b"\x80\x02}(Nu.",
    "a name that is a number": b"\x80\x04K\x01K\x02\x93.",
    "a buffer outside of the file": b"\x80\x05\x97.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a number of many digits": b"L" + b"9" * 100_000 + b"L\n.",
    "nothing": b"",
    "a persistent id of nonsense": b"\x80\x02}X\x01\x00\x00\x00aNQs.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused_without_harm(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=r"hostile\.pt (is not a file of weights|holds)"):
        read_tensors(write(tmp_path / "hostile.pt", content))


def test_keys_that_may_collide_or_nest_are_dropped() -> None:
    value = {1: "kept", "a": "kept", 2**61 - 1: "dropped", -(2**60): "dropped", (1, 2): "dropped", 2.5: "dropped"}
    assert read(pickle.dumps(value, 4)) == {1: "kept", "a": "kept"}


def test_a_pickle_has_a_most_of_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_OPERATIONS", 100)
    with pytest.raises(ModelError, match="more than 100 operations"):
        read_tensors(write(tmp_path / "long.pt", b"\x80\x02" + b"N0" * 60 + b"N."))


def test_a_compressed_or_ambiguous_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small/data.pkl", bytes(10_000))
    with pytest.raises(ModelError, match="it is compressed"):
        read_tensors(tmp_path / "bomb.pt")
    with zipfile.ZipFile(tmp_path / "two.pt", "w") as archive:
        archive.writestr("one/data.pkl", b"N.")
        archive.writestr("two/data.pkl", b"N.")
    with pytest.raises(ModelError, match=r"2 entries data\.pkl"):
        read_tensors(tmp_path / "two.pt")


def test_damaged_numbers_are_found(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((64,), 1.5)}, tmp_path / "good.pt")
    content = bytearray((tmp_path / "good.pt").read_bytes())
    content[content.index(struct.pack("<f", 1.5) * 64) + 7] ^= 1
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.pt is not a file of weights, or is damaged \(Bad CRC-32"):
        read_tensors(tmp_path / "bad.pt")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(plain, st.sampled_from(PROTOCOLS[2:]))  # up to protocol 2, bytes are written as a call
def test_plain_values_are_read_as_pickle_reads_them(value: object, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        read(content)
