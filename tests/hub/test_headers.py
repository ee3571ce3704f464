"""The shape of a release from the first bytes of its weights; nothing is downloaded."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import ConfigValueError, DamagedWeightsError, PhiBotError
from bot.hub.client import Hub
from bot.hub.errors import hub_errors
from bot.hub.headers import shape
from bot.progress import Silent
from bot.records.artifacts import Json
from bot.source.shape import Shape, guessed_shape, local_shape
from tests.hub.faulty import Fault, Proxy
from tests.source import models

MODEL = "microsoft/Phi-tiny"
CONFIG = models.CONFIG | {"vocab_size": 8}


def put(client: Hub, files: Mapping[str, bytes], config: dict[str, Json] = CONFIG) -> None:
    with Silent().task("") as task:
        contents = {**files, "config.json": json.dumps(config).encode()}
        client.commit(MODEL, files=contents, parent=None, message="Put", task=task)


def shape_on(client: Hub) -> Shape:
    release = client.release(MODEL)
    with hub_errors(client.endpoint, MODEL):
        return shape(client.api, release)


@pytest.mark.parametrize("files", [models.files(), models.sharded()], ids=["one file", "shards"])
def test_the_shape_on_the_hub_is_that_of_the_folder(client: Hub, tmp_path: Path, files: dict[str, bytes]) -> None:
    put(client, files)
    folder = models.write(tmp_path / "model", files)
    found = shape_on(client)
    assert found == local_shape(folder, CONFIG)
    assert found == Shape(parameters={"BF16": 32, "F32": 4}, bytes=80, largest=32, layers=1, vocabulary=8)
    assert found.count == 36


def test_a_model_takes_one_request_a_file_and_a_large_header_two(client: Hub, faulty: Proxy, shaky: Hub) -> None:
    put(client, models.sharded())
    assert shape_on(shaky).count == 36
    assert faulty.count("GET", r"/resolve/.*safetensors") == 2
    ranges = [headers["range"] for method, path, headers in faulty.seen if "model-0000" in path and method == "GET"]
    assert all(found.startswith("bytes=0-") for found in ranges)


def test_a_header_of_many_tensors_is_read_whole(client: Hub, faulty: Proxy, shaky: Hub) -> None:
    many = models.layers(500)  # of 168 weights each
    put(client, models.files(model__safetensors=models.safetensors(many | models.TENSORS)))
    assert shape_on(shaky).parameters == {"BF16": 84_032, "F32": 4}
    assert faulty.count("GET", r"/resolve/.*/model.safetensors") == 2


def test_the_data_of_a_large_file_stays_where_it_is(client: Hub, faulty: Proxy, shaky: Hub) -> None:
    put(
        client,
        models.files(model__safetensors=models.safetensors({"model.embed_tokens.weight": ("BF16", [250_000, 4])})),
        models.CONFIG,
    )
    assert shape_on(shaky).count == 1_000_000
    asked = [headers["range"] for method, path, headers in faulty.seen if path.endswith("model.safetensors")]
    assert asked == ["bytes=0-99999"]


HOSTILE = {
    "no length": b"\x01",
    "a length beyond the file": (10**6).to_bytes(8, "little") + b"{}",
    "a length of exabytes": b"\xff" * 8 + b"{}" * 100,
    "more than the limit": (25_000_001).to_bytes(8, "little") + b" " * 25_000_100,
    "no JSON": models.framed(b"{nothing"),
    "deeply nested": models.framed(b"[" * 90_000),
    "a list": models.framed(b"[]"),
    "a key twice": models.framed(b'{"a": 1, "a": 1}'),
    "a negative shape": models.framed(b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', b"1234"),
    "an overflowing shape": models.framed(
        b'{"w": {"dtype": "F32", "shape": [9223372036854775807, 9], "data_offsets": [0, 4]}}', b"1234"
    ),
    "more data than there is": models.framed(
        b'{"w": {"dtype": "F32", "shape": [250], "data_offsets": [0, 1000]}}', b"1234"
    ),
    "overlapping data": models.framed(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b"1234",
    ),
    "bytes after the data": models.framed(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', b"12345"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_and_the_file_named(client: Hub, what: str) -> None:
    put(client, models.files(model__safetensors=HOSTILE[what]))
    with pytest.raises(DamagedWeightsError, match=r"^model\.safetensors "):
        shape_on(client)


@pytest.mark.parametrize(
    "fault",
    [{"cut": 10, "times": 2}, {"lose": True, "times": 2}, {"status": 503, "times": 2}, {"status": 429, "times": 1}],
    ids=str,
)
def test_a_hub_that_falters_is_asked_again(
    client: Hub, faulty: Proxy, shaky: Hub, at_once: None, fault: dict[str, int]
) -> None:
    put(client, models.files())
    faulty.faults.append(Fault(method="GET", path=r"/resolve/.*model\.safetensors", **fault))  # type: ignore[arg-type]
    assert shape_on(shaky).count == 36


def test_a_hub_that_keeps_failing_is_an_error_of_ours(client: Hub, faulty: Proxy, shaky: Hub, at_once: None) -> None:
    put(client, models.files())
    faulty.faults.append(Fault(method="GET", path=r"/resolve/.*model\.safetensors", status=500))
    with pytest.raises(PhiBotError):
        shape_on(shaky)


def test_without_headers_the_shape_is_guessed_from_sizes_and_config(client: Hub) -> None:
    put(client, models.files(model__safetensors=models.safetensors({"w": ("BF16", [1000, 100])})))
    release = client.release(MODEL)
    guessed = guessed_shape(replace(release, config=release.config | {"num_hidden_layers": 3}))
    assert guessed.count == pytest.approx(100_000, rel=0.01)  # the file's header counts as weights
    assert (guessed.layers, guessed.vocabulary) == (3, 8)


@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "hidden_size"])
@pytest.mark.parametrize("value", [None, "many", -1, True, 1e9, 10**30, []])
def test_a_release_with_a_config_of_nonsense_is_refused_by_its_key(client: Hub, key: str, value: object) -> None:
    put(client, models.files(), CONFIG | {key: value})
    with pytest.raises(ConfigValueError, match=rf"config\.json of {MODEL}: {key} is "):
        client.release(MODEL)


@pytest.mark.parametrize("value", [None, "many", -1, True, 1e9, 10**30, []])
def test_a_config_of_nonsense_gives_a_shape_all_the_same(client: Hub, value: object) -> None:
    put(client, models.files())
    keys = ("vocab_size", "num_hidden_layers", "hidden_size")
    release = replace(client.release(MODEL), config=CONFIG | dict.fromkeys(keys, value))  # as a plan may bring it
    found = guessed_shape(release)
    assert 1 <= found.vocabulary <= 10**7
    assert 1 <= found.layers <= 10**4
    assert found.largest <= max(found.count, 1)
