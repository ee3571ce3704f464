"""Mapped weights: the bytes of a checkpoint as its files hold them, whole or streamed, in little memory."""

import ctypes
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot.building.streams import WeightStream
from bot.records.artifacts import Json
from bot.source import sparse_files
from bot.worker.feed import Feed
from bot.worker.harness import Reporter, SourceProblem
from bot.worker.mapped import SMALL, Mapped
from tests.worker.running import streaming
from tests.worker.test_tensors import write

ROWS = 64
LARGE = [ROWS, 2 * SMALL // ROWS]
NAMES = ["norm", "a", "b", "c"]


@pytest.fixture
def source(on_disk: Path) -> Path:
    """A checkpoint of a small tensor and three of 4 MiB."""
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {"norm": ("F32", [4], random.bytes(16))}
    tensors |= {name: ("BF16", LARGE, random.bytes(4 * SMALL)) for name in "abc"}
    (on_disk / "source").mkdir()
    write(on_disk / "source" / "model.safetensors", tensors)
    return on_disk / "source"


@pytest.fixture
def feed_of() -> Iterator[Callable[[WeightStream], Feed]]:
    """Join a worker's end to a stream as a bot does, over a pipe."""
    ends: list[int] = []

    def made(stream: WeightStream) -> Feed:
        reader = stream.reader()
        reading, writing = os.pipe()
        ends.append(writing)
        report = Reporter(writing)

        def answer(value: dict[str, Json]) -> None:
            report.on_answer(value)

        def serve() -> None:
            with os.fdopen(reading) as events:
                for line in events:
                    assert reader.take(json.loads(line))

        reader.begin(answer)
        threading.Thread(target=serve, daemon=True).start()
        return Feed(report)

    yield made
    for end in ends:
        os.close(end)


def resident() -> int:
    """The bytes of mapped files that this process holds in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


def test_tensors_are_listed_in_the_order_of_the_file_with_its_bytes(source: Path) -> None:
    mapped = Mapped(source)
    whole = (source / "model.safetensors").read_bytes()
    assert list(mapped.stored) == NAMES
    for name, stored in mapped.stored.items():
        assert mapped.view(name) == whole[stored.begin : stored.begin + stored.size]
    assert (mapped.stored["a"].dtype, mapped.stored["a"].shape) == ("BF16", tuple(LARGE))


def test_a_type_that_no_path_knows_is_named(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"scale": ("F8_E4M3", [4], bytes(4))})
    with pytest.raises(SourceProblem, match=r"model\.safetensors: scale is stored as F8_E4M3, not as BF16, F16, F32"):
        Mapped(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_tensor_no_longer_held_takes_no_memory(source: Path) -> None:
    mapped = Mapped(source)
    before = resident()
    for name in "abc":
        with mapped.held(name):
            assert sum(mapped.view(name)[::512]) > 0
            assert resident() > before + 3 * SMALL
    assert resident() < before + SMALL
    sum(mapped.view("a")[::512])
    mapped.drop("a", 0, 2 * SMALL)
    assert resident() < before + 3 * SMALL


def in_cache(path: Path, offset: int) -> bool:
    """Say whether the system holds a page of a file, without reading it as a read that must not wait might."""
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    page = np.frombuffer(mapped, np.uint8)[offset // mmap.PAGESIZE * mmap.PAGESIZE :]
    held = ctypes.c_ubyte()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(page.ctypes.data), 1, ctypes.byref(held)) == 0
    return bool(held.value & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows cannot be told to forget")
@pytest.mark.parametrize("memory", [8 * SMALL, 64 * SMALL])
def test_the_systems_cache_keeps_a_source_only_if_it_has_room(
    source: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = source / "model.safetensors"
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_cache(file, 6 * SMALL):
        pytest.skip("this file system lies in memory")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}.__getitem__)
    mapped = Mapped(source)
    middle = mapped.stored["b"].begin + 2 * SMALL
    with mapped.held("b"):
        assert sum(mapped.view("b")[::512]) > 0
        assert in_cache(file, middle)
    assert in_cache(file, middle) == (memory > 12 * SMALL)


def test_a_streamed_tensor_is_there_while_it_is_held_and_the_small_ones_always(
    source: Path, tmp_path: Path, feed_of: Callable[[WeightStream], Feed]
) -> None:
    if not sparse_files.can_punch(tmp_path):
        pytest.skip("this file system has no holes")
    whole = Mapped(source)
    with streaming(source, tmp_path / "streamed") as stream:
        mapped = Mapped(tmp_path / "streamed", feed_of(stream))
        assert mapped.view("norm") == whole.view("norm")
        mapped.order(["c", "a", "b"])
        for name in "cab":
            with mapped.held(name):
                assert mapped.view(name) == whole.view(name)
        with mapped.held("a"), mapped.held("a"):
            pass
        assert stream.fetched == sum(s.size for s in whole.stored.values()) + 4 * SMALL
        file = tmp_path / "streamed" / "model.safetensors"
        for _ in range(100):
            if file.stat().st_blocks * 512 < SMALL:
                break
            time.sleep(0.05)  # it goes as soon as the bot hears that it is done with
        else:
            raise AssertionError(file.stat().st_blocks)


def test_a_tensor_that_cannot_be_fetched_raises_where_it_is_needed(
    source: Path, tmp_path: Path, feed_of: Callable[[WeightStream], Feed]
) -> None:
    if not sparse_files.can_punch(tmp_path):
        pytest.skip("this file system has no holes")
    with streaming(source, tmp_path / "streamed") as stream:
        mapped = Mapped(tmp_path / "streamed", feed_of(stream))
        (source / "model.safetensors").unlink()
        with pytest.raises(ConnectionError, match=r"a does not come: .*No such file"), mapped.held("a"):
            pass
