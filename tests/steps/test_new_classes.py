"""Models of a watched author whose class nothing here builds: they are said, and looked at once it can be built."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.cli import tables
from bot.config import Config
from bot.config.places import AnnounceTable
from bot.github import connect
from bot.hub import releases
from bot.pages.summary import render_summary
from bot.records.artifacts import Report
from bot.records.plans import Plan, WatchedSources
from bot.state.memory import Memory
from bot.steps.announce import announce_releases
from bot.steps.watch import remembered
from tests.contexts import context_of
from tests.github.conftest import server as server
from tests.github_server import GitHub
from tests.source import models
from tests.steps.test_watch import watched
from tests.steps.test_watch_finetunes import PHI, World
from tests.steps.test_watch_finetunes import world as world

NAME = "Phi5ForCausalLM"


def put(world: World, repo_id: str, **changes: Any) -> None:
    config = json.dumps(models.CONFIG | {"architectures": [NAME], "model_type": "phi5", **changes}).encode()
    world.put(repo_id, models.files(config__json=config), "---\nlicense: mit\n---\n")


def look(world: World, memory: Memory | None = None) -> tuple[WatchedSources, list[str]]:
    return watched(world.running, memory)


def announced(found: WatchedSources, server: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("bot.github.connect", lambda repository: connect(repository, server.environ))
    config = Config(announce=AnnounceTable(repository="o/r"))
    announce_releases(Report(), context_of(config), todo=Plan(jobs=(), done=(), failures=()), watched=found)


def test_a_model_of_a_new_class_is_said_and_not_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    put(world, "microsoft/Phi-5")
    put(world, "microsoft/Other-5")
    found, asked = look(world)
    assert asked == [PHI]
    assert [(s.repo_id, s.content_digest is None) for s in found.sightings] == [("microsoft/Phi-5", True), (PHI, False)]
    assert found.new_classes is not None
    (new,) = found.new_classes
    assert (new.name, [m.partition("@")[0] for m in new.models]) == (NAME, ["microsoft/Phi-5"])
    assert ("microsoft/Phi-5", "unusable") in [(n.repo_id, n.what) for n in found.notices]
    tables.watched(found)
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("not yet"))
    assert line.startswith(f"not yet    {NAME}, the class of microsoft/Phi-5@")
    summary = render_summary(Report(), new_classes=found.new_classes)
    assert f"| `{NAME}` | `{new.models[0]}` | transformers " in summary
    for package in ("llama-cpp-python", "onnxruntime-genai", "optimum-intel", "mlx"):
        assert package in line
        assert package in summary


def test_conversions_and_models_without_weights_are_of_no_new_class(world: World) -> None:
    put(world, "microsoft/Phi-5-gguf")
    config = json.dumps(models.CONFIG | {"architectures": [NAME]}).encode()
    world.put("microsoft/Phi-5-empty", {"config.json": config}, "")
    put(world, "microsoft/Phi-5-awq", quantization_config={"quant_method": "awq", "bits": 4})
    assert look(world)[0].new_classes == ()


def test_once_it_can_be_built_it_is_read_without_a_new_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(releases, "_READ", {})
        first, asked = look(world)
        memory = Memory().with_sources(remembered(first, Memory(), Config()))
        assert ([one.name for one in first.new_classes or ()], asked) == (["Phi3ForCausalLM"], [])
        assert look(world, memory)[0].notices == ()
    found, asked = look(world, memory)
    assert (asked, found.new_classes) == ([PHI], ())
    assert [(n.repo_id, n.what) for n in found.notices] == [(PHI, "new")]
    assert found.sightings[0].content_digest is not None


def test_a_class_has_one_issue_that_is_updated_and_closed_when_it_can_be_built(
    world: World, server: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world, "microsoft/Phi-5")
    first, _ = look(world)
    announced(first, server, monkeypatch)
    (issue,) = server.issues
    assert (issue["title"], issue["state"]) == (f"{NAME} cannot be built yet", "open")
    assert "[microsoft/Phi-5](" in issue["body"]
    assert f"| llama-cpp-python | 0.3.36 | GGUF | llama.cpp does not support {NAME}" in issue["body"]
    assert "| transformers | 5.23.0 | the reference |" in issue["body"]
    put(world, "microsoft/Phi-5-mini")
    announced(look(world)[0], server, monkeypatch)
    assert len(server.issues) == 1
    assert "[microsoft/Phi-5-mini](" in issue["body"]
    named = WatchedSources(sightings=())
    announced(named, server, monkeypatch)
    assert issue["state"] == "open", "models were named, and none looked for"
    over = WatchedSources(sightings=(), notices=first.notices, new_classes=())
    announced(over, server, monkeypatch)
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    announced(first, server, monkeypatch)
    assert (len(server.issues), issue["state"]) == (1, "open")


def test_private_models_are_not_told_in_public(world: World, tmp_path: Path) -> None:
    put(world, "microsoft/Phi-5")
    world.api.update_repo_settings("microsoft/Phi-5", private=True)
    found, _ = watched(world.running, private="private")
    assert found.new_classes == ()
    assert [s.repo_id for s in found.sightings] == ["microsoft/Phi-5", PHI]
