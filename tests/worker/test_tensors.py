"""Reading a checkpoint's tensors with numpy alone: every stored type, parts of a tensor, and what is said of damage."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.worker import tensors
from bot.worker.harness import SourceProblem
from bot.worker.tensors import Tensors

Array = Any

VALUES = [[1.0, -2.5], [0.0, 3.140625], [65280.0, -1.52587890625e-05]]  # exact in every one of the types
STORED = {
    "F32": lambda v: np.array(v, "<f4").tobytes(),
    "F16": lambda v: np.array(v, "<f2").tobytes(),
    "BF16": lambda v: (np.array(v, "<f4").view("<u4") >> 16).astype("<u2").tobytes(),
}


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, data = {}, b""
    for name, (kind, shape, stored) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def matrix(kind: str = "F32") -> tuple[str, list[int], bytes]:
    return kind, [3, 2], STORED[kind](VALUES)


@pytest.mark.parametrize("kind", STORED)
def test_every_stored_type_is_widened_exactly(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"before": matrix("F32"), "m": matrix(kind)})
    read = Tensors(tmp_path).read("m")
    assert read.dtype == np.float32
    assert read.tolist() == VALUES


def test_bfloat16_keeps_nan_and_infinity(tmp_path: Path) -> None:
    stored = struct.pack("<4H", 0x7FC0, 0x7F80, 0xFF80, 0x8000)
    write(tmp_path / "model.safetensors", {"v": ("BF16", [4], stored)})
    read = Tensors(tmp_path).read("v")
    assert np.isnan(read[0])
    assert read[1:].tolist() == [np.inf, -np.inf, 0.0]
    assert np.signbit(read[3])


def test_parts_of_a_tensor(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"m": matrix("BF16")})
    source = Tensors(tmp_path)
    assert source.read("m", 1, 2).tolist() == [VALUES[1]]
    assert source.read("m", 1, 99).tolist() == VALUES[1:]
    assert source.take("m", np.array([2, 0, 2])).tolist() == [VALUES[2], VALUES[0], VALUES[2]]


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("at_once", [1, 4, 5])
def test_a_tensor_is_read_in_parts_of_any_size(
    kind: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "_AT_ONCE", at_once)
    write(tmp_path / "model.safetensors", {"m": matrix(kind)})
    assert Tensors(tmp_path).read("m").tolist() == VALUES
    assert Tensors(tmp_path).read("m", 1, 3).tolist() == VALUES[1:]
    assert Tensors(tmp_path).read("m", 3).tolist() == []


def test_a_tensor_is_read_into_memory_that_is_there(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"m": matrix("BF16")})
    room: Array = np.full(8, 7, dtype=np.float32)
    read = Tensors(tmp_path).read("m", room=room)
    assert read.tolist() == VALUES
    assert np.shares_memory(read, room)
    assert room[6:].tolist() == [7, 7]


def test_a_file_that_becomes_shorter_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write(file, {"m": matrix()})
    read = Tensors(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SourceProblem, match=r"model\.safetensors is damaged: it became shorter"):
        read.read("m")


def test_a_tensor_that_was_read_can_be_changed(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"m": matrix("F32")})
    before = (tmp_path / "model.safetensors").read_bytes()
    source = Tensors(tmp_path)
    source.read("m")[:] = 0
    assert source.read("m").tolist() == VALUES
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_tensors_of_all_shards_are_one(tmp_path: Path) -> None:
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    write(tmp_path / names[0], {"a": matrix("F16")})
    write(tmp_path / names[1], {"b": matrix("BF16")})
    source = Tensors(tmp_path)
    assert source.names() == {"a", "b"}
    assert source.shape("b") == (3, 2)
    assert source.read("a").tolist() == source.read("b").tolist()


def test_a_missing_tensor_is_a_key_error(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a": matrix()})
    with pytest.raises(KeyError):
        Tensors(tmp_path).read("b")
    with pytest.raises(KeyError):
        Tensors(tmp_path).shape("b")


def test_a_type_that_is_not_a_float_is_named(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"m": ("F8_E4M3", [4], b"\0" * 4)})
    with pytest.raises(SourceProblem, match=r"model\.safetensors: m is stored as F8_E4M3, not as BF16, F16, F32"):
        Tensors(tmp_path).read("m")


def _header(**entry: Any) -> bytes:
    text = json.dumps({"m": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a header cut short": lambda whole: whole[:20],
    "data cut short": lambda whole: whole[:-1],
    "no JSON": lambda _: struct.pack("<Q", 4) + b"{no}",
    "not UTF-8": lambda _: struct.pack("<Q", 4) + b"\xff\xfe{}",
    "a list": lambda _: struct.pack("<Q", 2) + b"[]",
    "a header of petabytes": lambda whole: struct.pack("<Q", 1 << 50) + whole[8:],
    "an entry without its place": lambda _: _header(data_offsets=[]),
    "an entry of another kind": lambda _: _header(shape=3),
    "a shape that its data do not have": lambda _: _header(shape=[3]),
    "a negative place": lambda _: _header(data_offsets=[-8, 0]),
    "a pickle": lambda _: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write(file, {"m": matrix()})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SourceProblem, match=r"model\.safetensors is damaged"):
        Tensors(tmp_path)
