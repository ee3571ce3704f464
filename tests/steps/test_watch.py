"""Which releases are found."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bot.config import Config
from bot.config.tables import WatchTable
from bot.errors import PicklesOnlyError, UnknownModelError
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import Release
from bot.records.plans import SourceState, WatchedSources
from bot.state.memory import Memory
from bot.steps.watch import Reader, is_folder, remembered, watch
from tests.contexts import context_of
from tests.source import models

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def put(hub: RunningHub, repo_id: str, files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=folder)


def watched(hub: RunningHub, memory: Memory | None = None, **policy: Any) -> tuple[WatchedSources, list[str]]:
    """Watch microsoft; return what was found, and the paths that were asked for beyond lists."""
    config = Config(watch=WatchTable(**policy))
    reader = Asking(hub=client.connect(hub.url, hub.token))
    found = watch(reader, context_of(config, hub=reader.hub), memory=memory or Memory(), now=NOW)
    return found, reader.asked


class Asking(Reader):
    """Counts what it reads."""

    def __init__(self, hub: client.Hub) -> None:
        super().__init__(hub=hub)
        self.asked: list[str] = []

    def release(self, sighting: SourceState) -> Release:
        self.asked.append(sighting.repo_id)
        return super().release(sighting)


def remember(found: WatchedSources, memory: Memory | None = None) -> Memory:
    return (memory or Memory()).with_sources(remembered(found, memory or Memory(), Config()))


def said(found: WatchedSources) -> list[tuple[str, str]]:
    return [(n.repo_id, n.what) for n in found.notices]


def test_the_configured_authors_releases_are_found(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    put(hub, "microsoft/phi-9-base", models.files(), tmp_path / "b")
    put(hub, "microsoft/Other", models.files(), tmp_path / "c")
    put(hub, "someone/Phi-9", models.files(), tmp_path / "d")
    found, _ = watched(hub)
    assert [s.repo_id for s in found.sightings] == ["microsoft/Phi-9", "microsoft/phi-9-base"]
    assert said(found) == [("microsoft/Phi-9", "new"), ("microsoft/phi-9-base", "new")]


def test_one_bad_repo_is_said_once_and_holds_up_no_other(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-8", {"config.json": b"[]", **models.files(config__json=None)}, tmp_path / "a")
    shard = {"model-00001-of-00002.safetensors": models.files()["model.safetensors"]}
    put(hub, "microsoft/Phi-8.5", models.files(model__safetensors=None) | shard, tmp_path / "b")
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "c")
    found, _ = watched(hub)
    assert [s.repo_id for s in found.sightings if s.content_digest] == ["microsoft/Phi-9"]
    assert said(found) == [("microsoft/Phi-8.5", "unusable"), ("microsoft/Phi-9", "new")]
    again, asked = watched(hub, remember(found))
    assert (said(again), asked) == ([], [])


def test_a_known_release_is_not_read_again(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    first, asked = watched(hub)
    assert asked == ["microsoft/Phi-9"]
    second, asked = watched(hub, remember(first))
    assert asked == []
    assert [s.content_digest for s in second.sightings] == [s.content_digest for s in first.sightings]
    assert remember(second, remember(first)) == remember(first)


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        ("README.md", b"# Better words", "edited"),
        ("config.json", json.dumps(models.CONFIG | {"rope_theta": 5}).encode(), "changed"),
        ("tokenizer.json", b'{"other": 1}', "changed"),
        ("chat_template.jinja", b"{{ messages }}", "changed"),
    ],
)
def test_a_release_is_its_content(hub: RunningHub, tmp_path: Path, path: str, content: bytes, what: str) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    first, _ = watched(hub)
    HfApi(endpoint=hub.url, token=hub.token).upload_file(
        repo_id="microsoft/Phi-9", path_in_repo=path, path_or_fileobj=content
    )
    second, asked = watched(hub, remember(first))
    assert (said(second), asked) == ([("microsoft/Phi-9", what)], ["microsoft/Phi-9"])
    same = first.sightings[0].content_digest == second.sightings[0].content_digest
    assert same == (what == "edited")
    third, asked = watched(hub, remember(second))
    assert (said(third), asked) == ([], [])


def test_a_repo_that_is_gone_or_renamed_is_said(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-8", models.files(), tmp_path / "a")
    put(hub, "microsoft/Phi-9", models.files(tokenizer__json=b'{"a": 1}'), tmp_path / "b")
    memory = remember(watched(hub)[0])
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.delete_repo("microsoft/Phi-8")
    api.delete_repo("microsoft/Phi-9")
    put(hub, "microsoft/Phi-9-mini", models.files(tokenizer__json=b'{"a": 1}'), tmp_path / "c")
    found, _ = watched(hub, memory)
    assert said(found) == [("microsoft/Phi-8", "deleted"), ("microsoft/Phi-9-mini", "renamed")]
    assert "microsoft/Phi-9 has this name now" in found.notices[1].text
    assert said(watched(hub, remember(found, memory))[0]) == []


def test_a_repo_that_loses_its_weights_is_said(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    memory = remember(watched(hub)[0])
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.delete_file("model.safetensors", "microsoft/Phi-9")
    found, asked = watched(hub, memory)
    assert (said(found), found.sightings, asked) == ([("microsoft/Phi-9", "emptied")], (), [])
    api.create_repo("microsoft/Phi-empty")
    assert said(watched(hub)[0]) == []


@pytest.mark.parametrize("policy", ["gated", "private"])
def test_gated_and_private_models_are_left_out_unless_the_policy_takes_them(
    hub: RunningHub, tmp_path: Path, policy: str
) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    memory = remember(watched(hub)[0])
    setting: Any = {"gated": "auto"} if policy == "gated" else {"private": True}
    HfApi(endpoint=hub.url, token=hub.token).update_repo_settings("microsoft/Phi-9", **setting)
    found, _ = watched(hub, memory)
    assert (said(found), found.sightings) == ([("microsoft/Phi-9", policy)], ())
    taken, _ = watched(hub, memory, **{policy: "private"})
    assert [getattr(s, policy) for s in taken.sightings] == [True]
    assert remember(found, memory) == memory


def test_a_release_that_is_too_young_waits_as_it_is(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    found, asked = watched(hub, minimum_age=1e5)
    assert (said(found), found.sightings, asked) == ([("microsoft/Phi-9", "young")], (), [])
    first, _ = watched(hub)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.upload_file(repo_id="microsoft/Phi-9", path_in_repo="tokenizer.json", path_or_fileobj=b"{}")
    later, asked = watched(hub, remember(first), minimum_age=1e5)
    assert (later.sightings[0].commit, asked) == (first.sightings[0].commit, [])


def test_a_named_repo_that_is_bad_ends_it(hub: RunningHub, tmp_path: Path) -> None:
    files = models.files(model__safetensors=None) | {"pytorch_model.bin": b"x"}
    put(hub, "microsoft/Phi-9", files, tmp_path / "a")
    with pytest.raises(PicklesOnlyError):
        named(hub, "microsoft/Phi-9")


def named(hub: RunningHub, model: str) -> Release:
    return Reader(hub=client.connect(hub.url, hub.token)).named(model)


@pytest.mark.parametrize("text", ["./model", "/models/phi", "~/phi", "..", r"C:\phi"])
def test_a_text_that_looks_like_a_path_is_a_folder(text: str) -> None:
    assert is_folder(text)


@pytest.mark.parametrize("text", ["phi-4", "a/b/c", ""])
def test_a_name_of_neither_a_folder_nor_a_repo_is_refused(hub: RunningHub, text: str) -> None:
    with pytest.raises(UnknownModelError, match="neither a folder here nor a repo id"):
        named(hub, text)
