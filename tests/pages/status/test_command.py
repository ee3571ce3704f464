"""The status page from the command line, over an embedded Hub."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.hub import client
from bot.localhub import RunningHub
from bot.pages.status.records import Status
from bot.progress import Silent
from bot.records.artifacts import RepoRecord
from tests.e2e.world import World, make_world
from tests.pages.cards import examples as cards
from tests.pages.status.examples import built, release
from tests.source import models

pytestmark = pytest.mark.process

SOURCE = "microsoft/Phi-3.5-mini-instruct"


def commit(hub: RunningHub, repo_id: str, files: dict[str, bytes], *, private: bool = False) -> str:
    """Make a repo with these files, and return its head."""
    with Silent().task("") as task:
        return client.connect(hub.url, hub.token).commit(
            repo_id, files=dict(files), parent=None, message="Add files", private=private, task=task
        )


def shelve(hub: RunningHub, repo_id: str, record: RepoRecord, *, private: bool = False) -> None:
    """Publish a repo that holds such a record, and a card that speaks of it."""
    head: dict[str, Any] = {
        "phi_bot": {
            "source": f"{SOURCE}@{cards.COMMIT}",
            "builds": {b.build.variant.name: b.build.build_key for b in record.builds},
            "contents": {b.build.variant.name: b.build.source.content_digest for b in record.builds},
        }
    }
    files = {
        "README.md": f"---\n{yaml.safe_dump(head)}---\n".encode(),
        "phi-bot.json": json.dumps(record.to_json()).encode(),
    }
    commit(hub, repo_id, files, private=private)


@pytest.fixture
def world(hub: RunningHub, tmp_path: Path) -> World:
    """A Hub with a release and two public repos made from a former state of it, and a private one."""
    commit(hub, SOURCE, models.files())
    source = release("Phi-3.5-mini-instruct")
    for name in ("gguf", "mlx"):
        _, record = cards.REPOS[name]
        mine = cards.record(*(built(source, b, 1.0) for b in record.builds))
        shelve(
            hub, {"gguf": "demo/Phi-3.5-mini-instruct-GGUF", "mlx": "demo/Phi-3.5-mini-instruct-mlx-4bit"}[name], mine
        )
    shelve(hub, "demo/Phi-secret-GGUF", cards.GGUF, private=True)
    return make_world(hub, tmp_path / "here")


def test_the_page_shows_publications_and_variants_to_build(world: World) -> None:
    done = world.phi_bot("status", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "site/index.html: models 1, variants published 5, to look at 0\n"
    site = world.folder / "site"
    found = Status.from_json(json.loads((site / "status.json").read_text()))
    (model,) = found.models
    states = {e.variant: e.state for e in model.entries}
    assert states["gguf/q4_k_m"] == states["mlx/4bit"] == "changed"
    assert states["gguf/f16"] == "changed", "though the configuration does not ask for it"
    assert states["onnx/cpu-int4"] == "refused", "so small a model"
    assert "Phi-3.5-mini-instruct" in (site / "index.html").read_text()
    assert "± 0.0011" in (site / "models" / "microsoft--Phi-3.5-mini-instruct.html").read_text()
    assert "secret" not in "".join(p.read_text() for p in site.rglob("*.*"))


def test_unchanged_repos_are_not_read_again(world: World) -> None:
    first = world.phi_bot("status")
    again = world.phi_bot("status")
    assert first.returncode == again.returncode == 0, again.stderr
    assert "Reading records" in first.stderr
    assert "Reading records" not in again.stderr
    elsewhere = world.phi_bot("status", "--out", "other", "--previous", "site/status.json")
    assert "Reading records" not in elsewhere.stderr
    one, two = (json.loads((world.folder / f / "status.json").read_text()) for f in ("site", "other"))
    assert one["shelves"] == two["shelves"]


def test_the_data_alone_is_printed_for_machines(world: World) -> None:
    printed = Status.from_json(world.json("status", "--private", "--quiet"))
    assert {s.repo_id for s in printed.shelves} >= {"demo/Phi-secret-GGUF"}
    assert not (world.folder / "site").exists()


def test_a_record_that_cannot_be_read_costs_its_figures_and_nothing_else(world: World) -> None:
    repo_id = "demo/Phi-3.5-mini-instruct-GGUF"
    connected = client.connect(world.hub.url, world.hub.token)
    head = connected.namespace("demo").shelved[repo_id].commit
    with Silent().task("") as task:
        connected.commit(repo_id, files={"phi-bot.json": b"{"}, parent=head, message="Break it", task=task)
    done = world.phi_bot("status")
    assert done.returncode == 0, done.stderr
    assert f"{repo_id} is shown without figures" in done.stderr
    assert "variants published 5" in done.stdout


def test_a_folder_of_something_else_is_refused_before_the_hub_is_asked(world: World) -> None:
    done = world.phi_bot("status", "--out", ".", "--endpoint", "http://127.0.0.1:9")
    assert done.returncode == 10
    assert "something else than a status page" in done.stderr
