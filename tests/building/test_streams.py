"""Streams: tensors come when they are asked for, a little ahead, and go when they are given back."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from bot.building.streams import WeightStream
from bot.errors import HubUnreachableError
from bot.hub.headers import TensorRange
from bot.records.artifacts import Json, SourceFile
from bot.source import sparse_files

KB = 1 << 10
TENSOR = 64 * KB
NAMES = [f"t{n}" for n in range(20)]


class Worker:
    """The other end: sends events, and waits for answers, as worker/feed.py does."""

    def __init__(self, stream: WeightStream) -> None:
        self.reader, self.answers, self._arrived = stream.reader(), [], threading.Condition()  # type: ignore[var-annotated]
        self.reader.begin(self._take)

    def _take(self, answer: dict[str, Json]) -> None:
        with self._arrived:
            self.answers.append(answer)
            self._arrived.notify_all()

    def say(self, event: str, **values: Json) -> None:
        assert self.reader.take({"event": event, **values})

    def need(self, name: str) -> dict[str, Json]:
        count = len(self.answers)
        self.say("need", tensor=name)
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.answers) > count, 10)
        return self.answers[-1]  # type: ignore[no-any-return]


class Source:
    """What a Hub holds: other bytes in each tensor; counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = SourceFile(path="model.safetensors", size=len(NAMES) * TENSOR, digest="sha256:" + "0" * 64)
        sparse_files.make(folder / file.path, file.size)
        self.places = {
            name: TensorRange(file=file, begin=n * TENSOR, end=(n + 1) * TENSOR) for n, name in enumerate(NAMES)
        }
        self.fetched: list[int] = []
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def read(self, place: TensorRange, take: Callable[[bytes], None]) -> None:
        self.fetched.append(place.begin // TENSOR)
        assert self.answers.wait(10)
        if self.error is not None:
            raise self.error
        for _ in range(4):
            take(bytes([place.begin // TENSOR + 1]) * (TENSOR // 4))

    def on_disk(self) -> list[str]:
        """The tensors whose bytes are all there."""
        content = (self.folder / "model.safetensors").read_bytes()
        return [
            name for n, name in enumerate(NAMES) if content[n * TENSOR : (n + 1) * TENSOR] == bytes([n + 1]) * TENSOR
        ]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    if not sparse_files.can_punch(tmp_path):
        pytest.skip("this file system has no holes")
    return Source(tmp_path)


@pytest.fixture
def stream(source: Source) -> Iterator[WeightStream]:
    with WeightStream(source.places, source.folder, source.read, ahead=4 * TENSOR) as stream:
        yield stream


def settled(what: Callable[[], object]) -> object:
    """Return a value as soon as it has not changed for a while."""
    last = what()
    for _ in range(100):
        time.sleep(0.05)
        now = what()
        if now == last:
            return now
        last = now
    raise AssertionError(last)


def test_a_tensor_comes_when_it_is_needed_and_goes_when_it_is_released(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    assert worker.need("t7") == {"have": "t7"}
    assert source.on_disk() == ["t7"]
    worker.say("released", tensor="t7")
    assert source.on_disk() == []
    assert worker.need("t7") == {"have": "t7"}  # and comes again
    assert source.fetched == [7, 7]


def test_the_next_tensors_come_ahead_and_no_more_than_there_is_room_for(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    worker.say("order", tensors=NAMES)
    assert settled(source.on_disk) == NAMES[:4]
    assert worker.need("t0") == {"have": "t0"}
    worker.say("released", tensor="t0")
    assert settled(source.on_disk) == NAMES[1:5]


def test_a_whole_model_goes_through_little_disk_in_its_order(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    names = random.Random(0).sample(NAMES, len(NAMES))
    worker.say("order", tensors=names)
    for name in names:
        assert worker.need(name) == {"have": name}
        assert name in source.on_disk()
        worker.say("released", tensor=name)
    assert source.on_disk() == []
    assert sorted(source.fetched) == list(range(len(NAMES)))  # each once
    assert stream.fetched == len(NAMES) * TENSOR
    assert stream.peak <= 5 * TENSOR


def test_an_unexpected_tensor_comes_though_there_is_no_room_left(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    worker.say("order", tensors=NAMES[:10])
    settled(source.on_disk)
    assert worker.need("t19") == {"have": "t19"}


def test_a_new_order_releases_tensors_of_the_old_one(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    worker.say("order", tensors=NAMES[:10])
    assert worker.need("t1") == {"have": "t1"}
    settled(source.on_disk)
    worker.say("order", tensors=["t15", "t3"])
    assert settled(source.on_disk) == ["t1", "t3", "t15"]  # t1 is still in use


def test_another_worker_begins_with_nothing(source: Source, stream: WeightStream) -> None:
    first = Worker(stream)
    first.say("order", tensors=NAMES)
    first.need("t0")
    settled(source.on_disk)
    first.reader.close()
    second = Worker(stream)
    assert settled(source.on_disk) == []
    assert second.need("t0") == {"have": "t0"}


def test_a_tensor_that_is_arriving_for_an_old_order_is_dropped_on_arrival(source: Source, stream: WeightStream) -> None:
    source.answers.clear()
    worker = Worker(stream)
    worker.say("order", tensors=NAMES[:4])
    settled(lambda: len(source.fetched))
    worker.say("order", tensors=["t1", *NAMES[10:]])
    source.answers.set()
    assert settled(source.on_disk) == ["t1", "t10", "t11", "t12"]  # … with room for as many as ever


def test_a_tensor_that_is_arriving_for_a_worker_that_left_is_dropped_on_arrival(
    source: Source, stream: WeightStream
) -> None:
    source.answers.clear()
    first = Worker(stream)
    first.say("order", tensors=NAMES[:4])
    first.say("need", tensor="t0")
    settled(lambda: len(source.fetched))
    first.reader.close()
    second = Worker(stream)
    second.say("need", tensor="t2")
    source.answers.set()
    assert settled(source.on_disk) == ["t2"]
    assert (first.answers, second.answers) == ([], [{"have": "t2"}])


def test_a_tensor_needed_before_its_turn_does_not_come_again_at_its_turn(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    worker.say("order", tensors=NAMES[:10])
    for name in ("t9", *NAMES[:9]):
        assert worker.need(name) == {"have": name}
        worker.say("released", tensor=name)
    assert settled(source.on_disk) == []
    assert sorted(source.fetched) == list(range(10))


def test_a_tensor_of_an_older_order_does_not_come_again(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    worker.say("order", tensors=["t0"])
    assert settled(source.on_disk) == ["t0"]
    worker.say("order", tensors=[*NAMES[1:10], "t0"])
    for name in NAMES[:10]:
        assert worker.need(name) == {"have": name}
        worker.say("released", tensor=name)
    assert settled(source.on_disk) == []
    assert sorted(source.fetched) == list(range(10))


def test_a_tensor_named_twice_in_an_order_is_there_twice(source: Source, stream: WeightStream) -> None:
    worker = Worker(stream)
    names = ["t0", *NAMES[1:10], "t0"]
    worker.say("order", tensors=names)
    for name in names:
        assert worker.need(name) == {"have": name}
        worker.say("released", tensor=name)
    assert settled(source.on_disk) == []
    assert sorted(source.fetched) == [0, *range(10)]


def test_a_failed_download_is_told_to_waiting_workers_and_kept(source: Source, stream: WeightStream) -> None:
    source.error = HubUnreachableError("the Hub does not answer", hint="Wait.")
    worker = Worker(stream)
    assert worker.need("t0") == {"failed": "the Hub does not answer"}
    assert worker.need("t1") == {"failed": "the Hub does not answer"}
    assert stream.error is source.error


def test_other_events_are_left_to_others(stream: WeightStream) -> None:
    assert not stream.reader().take({"event": "progress", "what": "writing", "done": 1, "total": 2, "unit": "bytes"})


# ---- several workers ---------------------------------------------------------------------------------------------


def shared(source: Source, count: int, most: int = 16) -> tuple[WeightStream, list[Worker]]:
    """A stream with room for so many tensors, and workers that have all taken their places."""
    stream = WeightStream(source.places, source.folder, source.read, ahead=4 * TENSOR, most=most * TENSOR)
    return stream, [Worker(stream) for _ in range(count)]


def read_all(worker: Worker, names: list[str], source: Source) -> None:
    """Order tensors and read them, one after the other; each is there while it is held."""
    worker.say("order", tensors=names)
    for name in names:
        assert worker.need(name) == {"have": name}
        assert name in source.on_disk()
        worker.say("released", tensor=name)
    worker.reader.close()


def in_threads(*work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


def test_workers_that_read_in_one_order_have_each_tensor_fetched_once(source: Source) -> None:
    stream, workers = shared(source, 3)
    with stream:
        in_threads(*(partial(read_all, w, NAMES, source) for w in workers))
    assert sorted(source.fetched) == list(range(len(NAMES)))
    assert source.on_disk() == []


def test_a_late_worker_finds_tensors_that_the_others_have_read(source: Source) -> None:
    stream, (first, late) = shared(source, 2, most=20)
    with stream:
        read_all(first, NAMES, source)
        assert source.on_disk() == NAMES
        read_all(late, NAMES, source)
    assert sorted(source.fetched) == list(range(len(NAMES)))
    assert source.on_disk() == []


def test_who_is_ahead_waits_for_the_others_where_the_disk_is_full(source: Source) -> None:
    stream, (first, late) = shared(source, 2, most=6)
    with stream, ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read_all, first, NAMES, source)
        assert settled(source.on_disk) == NAMES[:6]
        assert not ahead.done()
        read_all(late, NAMES, source)
        ahead.result(10)
    assert sorted(source.fetched) == list(range(len(NAMES)))
    assert stream.peak <= 7 * TENSOR


def test_a_worker_that_fails_does_not_hold_up_the_others(source: Source) -> None:
    stream, (first, failing) = shared(source, 2, most=6)
    with stream, ThreadPoolExecutor(1) as pool:
        failing.say("order", tensors=NAMES)
        assert failing.need("t0") == {"have": "t0"}
        ahead = pool.submit(read_all, first, NAMES, source)
        settled(source.on_disk)
        assert not ahead.done()
        failing.reader.close()
        ahead.result(10)
    assert sorted(source.fetched) == list(range(len(NAMES)))
    assert source.on_disk() == []


def test_workers_of_opposite_orders_read_all_with_some_of_it_fetched_again(source: Source) -> None:
    stream, (first, other) = shared(source, 2, most=6)
    with stream:
        in_threads(partial(read_all, first, NAMES, source), partial(read_all, other, NAMES[::-1], source))
    assert len(NAMES) <= len(source.fetched) <= 2 * len(NAMES)
    assert stream.peak <= 8 * TENSOR
    assert source.on_disk() == []


def test_a_tensor_that_a_workers_next_order_may_name_stays_for_it(source: Source) -> None:
    stream, (first, other) = shared(source, 2)
    with stream:
        other.say("order", tensors=["t3"], more=True)
        first.say("order", tensors=["t0", "t1"])
        for name in ("t0", "t1"):
            first.need(name)
            first.say("released", tensor=name)
        assert settled(source.on_disk) == ["t0", "t1", "t3"]
        other.say("order", tensors=["t1"])
        assert settled(source.on_disk) == ["t1"]


def test_a_kept_tensor_stays_for_the_next_worker(source: Source) -> None:
    with WeightStream(source.places, source.folder, source.read, ahead=4 * TENSOR, keep={"t2"}) as stream:
        read_all(Worker(stream), NAMES[:5], source)
        assert source.on_disk() == ["t2"]
        read_all(Worker(stream), ["t2", "t3"], source)
    assert sorted(source.fetched) == [0, 1, 2, 3, 3, 4]


def test_all_workers_are_told_the_error_that_ends_the_stream(source: Source) -> None:
    stream, (first, other) = shared(source, 2)
    source.error = HubUnreachableError("the Hub does not answer", hint="Wait.")
    with stream:
        assert first.need("t0") == {"failed": "the Hub does not answer"}
        assert other.need("t5") == {"failed": "the Hub does not answer"}
