"""Every kind of file has a largest size, which is held before anything of it is read."""

import dataclasses
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot import source
from bot.building import release_at_hand
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, WatchTable
from bot.errors import AlteredDownloadError, OversizedFileError, SourceError
from bot.hub import client
from bot.localhub import RunningHub
from bot.machines.placing import demand
from bot.proving.job_disk import streams
from bot.records.artifacts import Release, SourceFile
from bot.records.digests import ADAPTER_CONFIG, CONTENT_FILES
from bot.source import bounds, sizes, sparse_files
from bot.source.names import NOTICES
from bot.source.sparse_files import room
from bot.state.memory import Memory
from bot.steps.watch import Reader, watch
from bot.workspace import Workspace
from tests.contexts import context_of
from tests.source import models
from tests.steps.jobs import job, release
from tests.steps.test_requests import NOW

MODEL = "microsoft/Phi-9-mini"
SMALL = sorted((CONTENT_FILES | {"LICENSE", "NOTICE.txt"}) - {"config.json"})
PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def test_every_kind_of_file_that_is_read_has_a_largest_size() -> None:
    for path in (*CONTENT_FILES, *NOTICES, "model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        assert 0 < sizes.largest(path) <= sizes.WEIGHTS
    assert sizes.LARGEST.keys() == CONTENT_FILES
    assert max(sizes.LARGEST.values()) <= bounds.FILE_BYTES


def test_the_documented_sizes_are_those_that_hold() -> None:
    rows = re.findall(r"^\| (.+) \| ([\d,]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: int(most.replace(",", "")) for names, most in rows for name in re.findall(r"`([^`]+)`", names)}
    assert {name: said[name] for name in CONTENT_FILES} == sizes.LARGEST
    assert said["LICENSE"] == said["NOTICE"] == sizes.NOTICE
    assert said[ADAPTER_CONFIG] == sizes.largest(ADAPTER_CONFIG)
    words = {names: int(most.replace(",", "")) for names, most in rows}
    assert (words["the index of the weights"], words["a file of weights"]) == (sizes.INDEX, sizes.WEIGHTS)


# ---- the Hub's listing ---------------------------------------------------------------------------------------------


def listed(monkeypatch: pytest.MonkeyPatch, path: str, size: int) -> None:
    """Have the Hub list a file with another size than it has: nobody uploads gigabytes for a test."""
    from huggingface_hub.hf_api import RepoFile

    whole = HfApi.list_repo_tree

    def tree(self: HfApi, *args: object, **how: object) -> list[object]:
        found = list(whole(self, *args, **how))  # type: ignore[arg-type]
        for entry in found:
            if isinstance(entry, RepoFile) and entry.path == path:
                entry.size = size
                if entry.lfs is not None:
                    entry.lfs = dataclasses.replace(entry.lfs, size=size)
        return found  # type: ignore[return-value]

    monkeypatch.setattr(HfApi, "list_repo_tree", tree)


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(MODEL)
    return api


def put(api: HfApi, *more: str) -> None:
    files = models.files() | dict.fromkeys(more, b"{}")
    for name, content in files.items():
        api.upload_file(repo_id=MODEL, path_in_repo=name, path_or_fileobj=content)


def downloads(hub: RunningHub) -> int:
    counts = hub.requests.counts()
    return sum(n for kind, n in counts.items() if "resolve" in kind or "_lfs/download" in kind)


@pytest.mark.parametrize("path", ["config.json", *SMALL, "model.safetensors"])
def test_a_plan_refuses_before_any_download_and_names_file_size_and_limit(
    hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch, path: str, tmp_path: Path
) -> None:
    put(api, *() if path in models.files() else (path,))
    most = sizes.largest(path)
    listed(monkeypatch, path, most + 1)
    connected, before = client.connect(hub.url, hub.token), downloads(hub)
    with pytest.raises(SourceError) as caught:
        connected.release(MODEL)
    assert (path in caught.value.message, str(most + 1) in caught.value.message) == (True, True)
    assert str(most) in caught.value.message.replace(str(most + 1), "")
    assert downloads(hub) == before
    # A look at what is watched says the same, and is not ended by it.
    config = Config(
        watch=WatchTable(authors=("microsoft",)), build=BuildTable(work=tmp_path), publish=PublishTable(namespace="me")
    )
    seen = watch(Reader(hub=connected), context_of(config, hub=connected), memory=Memory(), now=NOW)
    (sighting,) = seen.sightings
    assert caught.value.message in sighting.problem
    assert downloads(hub) == before


def test_a_listing_may_hold_a_file_as_large_as_its_kind_may_be(
    hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api)
    listed(monkeypatch, "tokenizer.json", sizes.LARGEST["tokenizer.json"])
    found = client.connect(hub.url, hub.token).release(MODEL)
    assert {f.path: f.size for f in found.files}["tokenizer.json"] == sizes.LARGEST["tokenizer.json"]


def test_the_index_is_held_to_its_size_where_it_counts(
    hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in models.sharded().items():
        api.upload_file(repo_id=MODEL, path_in_repo=name, path_or_fileobj=content)
    listed(monkeypatch, "model.safetensors.index.json", sizes.INDEX + 1)
    before = downloads(hub)
    with pytest.raises(SourceError, match=f"model.safetensors.index.json.*{sizes.INDEX + 1}.*{sizes.INDEX}"):
        client.connect(hub.url, hub.token).release(MODEL)
    assert downloads(hub) == before


# ---- downloading: a listing may lie, and a plan may be anybody's ----------------------------------------------------


def changed(found: Release, path: str, size: int) -> Release:
    files = (dataclasses.replace(f, size=size) if f.path == path else f for f in found.files)
    return dataclasses.replace(found, files=tuple(files))


@pytest.mark.parametrize("path", ["tokenizer.json", "LICENSE", "tokenizer.model"])
def test_the_sizes_in_a_plan_are_checked_again_before_the_download(
    hub: RunningHub, api: HfApi, tmp_path: Path, path: str
) -> None:
    put(api)
    connected = client.connect(hub.url, hub.token)
    found = changed(connected.release(MODEL), path, sizes.largest(path) + 1)
    before = downloads(hub)
    with pytest.raises(OversizedFileError, match=re.escape(path)):
        release_at_hand.fetch(found, context_of(hub=connected, workspace=tmp_path))
    assert downloads(hub) == before


@pytest.mark.usefixtures("at_once")
def test_a_file_that_is_larger_than_it_was_listed_is_not_kept(hub: RunningHub, api: HfApi, tmp_path: Path) -> None:
    put(api)
    large = b'{"model": {}}' + b" " * 5_000_000
    api.upload_file(repo_id=MODEL, path_in_repo="tokenizer.json", path_or_fileobj=large)
    connected = client.connect(hub.url, hub.token)
    found = changed(connected.release(MODEL), "tokenizer.json", 1000)
    with pytest.raises(AlteredDownloadError, match=r"tokenizer.json .* did not arrive as the Hub lists it"):
        release_at_hand.fetch(found, context_of(hub=connected, workspace=tmp_path))
    kept = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size > 1000 and "tokenizer.json" in p.name]
    assert kept == []


# ---- folders of this machine ----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="files without holes")
@pytest.mark.parametrize("path", ["config.json", *SMALL])
def test_a_local_file_is_not_hashed_where_it_is_too_large(tmp_path: Path, path: str) -> None:
    models.write(tmp_path, models.files())
    with (tmp_path / path).open("ab") as file:
        file.truncate(10**12)  # a hole, which to hash would take an hour
    with pytest.raises(SourceError, match=re.escape(path)) as caught:
        source.local_release(tmp_path)
    assert "1000000000000" in caught.value.message
    assert str(sizes.largest(path)) in caught.value.message


# ---- room on the disk ------------------------------------------------------------------------------------------------


def with_rest(size: int) -> Release:
    found = release(4_000_000_000)
    rest = (
        SourceFile(path=name, size=size // 2, digest="git:" + "0" * 40) for name in ("tokenizer.json", "vocab.json")
    )
    return dataclasses.replace(found, files=(*found.files, *rest))


def test_the_room_for_other_files_counts_where_weights_stream() -> None:
    streamed = [dataclasses.replace(job(with_rest(n), "gguf/q4_k_m"), source="streamed") for n in (0, 90_000_000)]
    bare, full = (demand(one).disk for one in streamed)
    assert full - bare == 2 * 90_000_000  # as it was downloaded, and as toolchains read it
    assert sparse_files.streamed_bytes(with_rest(90_000_000)) == room(8_000_000_000) + 180_000_000
    kept = [demand(job(with_rest(n), "gguf/q4_k_m")).disk for n in (0, 90_000_000)]
    assert kept[1] - kept[0] == 180_000_000


def test_a_disk_without_room_for_other_files_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Workspace, "need_disk", lambda self, needed, what: asked.append(needed))
    context = context_of(workspace=tmp_path / "work")
    for rest in (0, 90_000_000):
        streams(dataclasses.replace(job(with_rest(rest), "gguf/q4_k_m"), source="streamed"), context)
    assert asked[1] - asked[0] == 180_000_000
