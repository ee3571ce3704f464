"""Models that are made to cost: work and memory of looking at them are bounded, and what is over the bound is named."""

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.errors import DamagedTokenizerError, DamagedWeightsError, PhiBotError
from bot.hub import client, headers
from bot.localhub import RunningHub
from bot.source import check, check_listing, safetensors_files
from bot.source.listing import INDEX
from tests.source import models

MODEL = "microsoft/Phi-9-mini"


def within(seconds: float, megabytes: float, act: Callable[[], object]) -> None:
    """Do something, and hold the seconds of processor and the memory that it takes to a bound.

    Tracing makes it some times slower; other work on the machine does not count.
    """
    tracemalloc.start()
    began = time.process_time()
    try:
        act()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < seconds
    assert peak < megabytes * 1e6


def refused(act: Callable[[], object], words: str, error: type[PhiBotError] = DamagedWeightsError) -> None:
    with pytest.raises(error, match=words):
        act()


def shards(count: int) -> list[str]:
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def test_a_listing_of_a_hundred_thousand_shards() -> None:
    """Each is looked for by the names of all the others."""
    names = ["config.json", INDEX, *shards(99_999)]
    within(5, 100, lambda: refused(lambda: check_listing(names, where=MODEL), "99999 files of weights"))


def test_a_listing_of_a_hundred_thousand_other_files() -> None:
    names = ["config.json", "model.safetensors", *(f"data/{i}.txt" for i in range(100_000))]
    within(5, 100, lambda: check_listing(names, where=MODEL))


def test_headers_that_are_large_together(tmp_path: Path) -> None:
    """Each of 25 MB is one that is read; many of them would take hours."""
    names = shards(6)
    padding = b" " * (safetensors_files.HEADER_BYTES - 100)
    weight_map = {}
    for i, name in enumerate(names):
        head = json.dumps({f"{i}": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        weight_map[str(i)] = name
        (tmp_path / name).write_bytes(models.framed(head + padding, b"\1"))
    models.write(tmp_path, models.files(model__safetensors=None))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    within(60, 400, lambda: refused(lambda: check(tmp_path), "headers of more than 100000000 bytes"))


def test_headers_that_are_large_together_on_the_hub(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_files, "HEADERS_BYTES", 300_000)
    files = models.sharded()
    for name in [n for n in files if n.endswith(".safetensors")]:
        length = int.from_bytes(files[name][:8], "little")
        head, data = files[name][8 : 8 + length], files[name][8 + length :]
        files[name] = models.framed(head + b" " * 200_000, data)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(MODEL)
    api.create_commit(MODEL, [CommitOperationAdd(p, c) for p, c in files.items()], commit_message="Add")
    release = client.connect(hub.url, hub.token).release(MODEL)
    refused(lambda: headers.shape(api, release), "headers of more than 300000 bytes")


@pytest.mark.large
@pytest.mark.parametrize(
    "head",
    [
        b'{"__metadata__":{"a":' + b"[" * 1_000_000,
        b'{"a":{"dtype":"U8","shape":' + b'{"b":' * 200_000,
        b'{"a":{"dtype":"U8","shape":[' + b"9" * 1_000_000 + b'],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"U8","shape":[' + b",".join([b"9223372036854775807"] * 16) + b'],"data_offsets":[0,9]}}',
        b'{"a":{"dtype":"U8","shape":[' + b",".join([b"0"] * 1_000_000) + b'],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}',
        b'{"' + b"a" * 1_000_000 + b'":1}',
        b'{"\\ud800":1}',
    ],
    ids=["lists", "objects", "digits", "overflow", "dimensions", "half a byte", "a long name", "half a character"],
)
def test_a_header_that_is_made_to_cost(head: bytes) -> None:
    def read() -> None:
        with pytest.raises(DamagedWeightsError) as caught:
            safetensors_files.check_layout(
                safetensors_files.parse_header(head, name="model.safetensors"), 1, "model.safetensors"
            )
        assert len(caught.value.message) < 300
        assert caught.value.message.encode()

    within(10, 100, read)


@pytest.mark.large
def test_a_header_of_as_many_tensors_as_fit() -> None:
    head = "{" + ",".join(f'"{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(40_000)) + "}"
    within(30, 100, lambda: safetensors_files.parse_header(head.encode(), name="model.safetensors"))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "content",
    [
        b'{"auto_map":' * 100_000,
        b'{"model":{"vocab":' + b"[" * 1_000_000,
        b'{"bos_token": "\\udc00"}',
        b'{"model_max_length": ' + b"9" * 10_000 + b"}",
    ],
    ids=["objects", "lists", "half a character", "digits"],
)
def test_a_tokenizer_that_is_made_to_cost(tmp_path: Path, name: str, content: bytes) -> None:
    models.write(tmp_path, models.files() | {name: content})
    within(10, 100, lambda: refused(lambda: check(tmp_path), name, DamagedTokenizerError))


def test_a_tokenizer_of_any_size_is_not_read(tmp_path: Path) -> None:
    models.write(tmp_path, models.files())
    with (tmp_path / "tokenizer.json").open("r+b") as file:
        file.truncate(10**12)
    within(5, 20, lambda: refused(lambda: check(tmp_path), "1000000000000 bytes", DamagedTokenizerError))
