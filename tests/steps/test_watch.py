"""Which releases are found."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.config import Config
from bot.errors import PicklesOnlyError, UnknownModelError
from bot.hub import client
from bot.hub.local import RunningHub
from bot.progress import Silent
from bot.records import Release
from bot.steps.watch import is_folder, watch
from tests.source import models


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def put(hub: RunningHub, repo_id: str, files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=folder)


def watched(hub: RunningHub, *named: str) -> tuple[tuple[Release, ...], list[str]]:
    heard = Heard()
    found = watch(named, config=Config(), hub=client.connect(hub.url, hub.token), display=heard)
    return found, heard.lines


def test_the_configured_authors_releases_are_found(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "a")
    put(hub, "microsoft/phi-9-base", models.files(), tmp_path / "b")
    put(hub, "microsoft/Other", models.files(), tmp_path / "c")
    put(hub, "someone/Phi-9", models.files(), tmp_path / "d")
    found, _ = watched(hub)
    assert [r.repo_id for r in found] == ["microsoft/Phi-9", "microsoft/phi-9-base"]


def test_one_bad_repo_is_said_and_holds_up_no_other(hub: RunningHub, tmp_path: Path) -> None:
    put(hub, "microsoft/Phi-8", {"config.json": b"[]", **models.files(config__json=None)}, tmp_path / "a")
    shard = {"model-00001-of-00002.safetensors": models.files()["model.safetensors"]}
    put(hub, "microsoft/Phi-8.5", models.files(model__safetensors=None) | shard, tmp_path / "b")
    put(hub, "microsoft/Phi-9", models.files(), tmp_path / "c")
    found, lines = watched(hub)
    assert [r.repo_id for r in found] == ["microsoft/Phi-9"]
    assert any("Left out microsoft/Phi-8.5: " in line for line in lines)


def test_a_named_repo_that_is_bad_ends_it(hub: RunningHub, tmp_path: Path) -> None:
    files = models.files(model__safetensors=None) | {"pytorch_model.bin": b"x"}
    put(hub, "microsoft/Phi-9", files, tmp_path / "a")
    with pytest.raises(PicklesOnlyError):
        watched(hub, "microsoft/Phi-9")


@pytest.mark.parametrize("text", ["./model", "/models/phi", "~/phi", "..", r"C:\phi"])
def test_what_looks_like_a_path_is_a_folder(text: str) -> None:
    assert is_folder(text)


@pytest.mark.parametrize("text", ["phi-4", "a/b/c", ""])
def test_what_is_neither_folder_nor_repo_is_said(hub: RunningHub, text: str) -> None:
    with pytest.raises(UnknownModelError, match="neither a folder here nor a repo id"):
        watched(hub, text)
