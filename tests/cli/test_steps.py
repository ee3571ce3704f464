"""The steps as commands: what fails ends nothing else, and what there is reaches the next step."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bot.errors import (
    DamagedWeightsError,
    IncompleteError,
    Interrupted,
    RecordError,
    UnknownModelError,
)
from bot.localhub import RunningHub
from bot.records.artifacts import Report
from bot.records.plans import Plan, WatchedSources
from tests.cli.world import VARIANT, World
from tests.hub.faulty import Fault, Proxy, proxy
from tests.source import models
from tests.steps import proven


def causes(report: Report) -> list[tuple[str, str, int]]:
    return [(f.release, f.step, f.exit_code) for f in report.failures]


def test_failures_reach_the_end_and_hold_up_nothing_on_the_way(world: World) -> None:
    damaged = (world.damaged.label, "build", DamagedWeightsError.exit_code)
    gone = (world.gone.label, "build", UnknownModelError.exit_code)
    built = world.report(3, "build", world.plan(world.damaged, world.whole, world.gone))
    assert [a.folder for a in built.artifacts] == [str(world.built)]
    assert causes(built) == [damaged, gone]
    for step in ("verify", "publish"):
        report = world.report(3, step, "last.json", "--namespace", "me")
        assert causes(report) == [damaged, gone], step
    assert [p.repo_id for p in report.publications] == ["me/Phi-2-whole-GGUF"]
    code, summary, _ = world.phi_bot("announce", "last.json")
    assert code == 0
    assert all(name in summary for name in ("me/Phi-2-whole-GGUF", "Phi-1-damaged", "Phi-3-gone"))


def test_staging_goes_on_too(world: World) -> None:
    world.report(3, "build", world.plan(world.damaged, world.whole))
    report = world.report(3, "stage", "last.json", "--namespace", "me")
    assert [s.build.source.label for s in report.staged] == [world.whole.label]
    assert causes(report) == [(world.damaged.label, "build", DamagedWeightsError.exit_code)]


@pytest.mark.parametrize("step", ["verify", "publish", "stage"])
def test_an_artifact_that_cannot_be_read_is_one_failure(world: World, step: str) -> None:
    torn = world.build(proven.release(world.hub, "microsoft/Phi-4-torn"))
    (torn / "build.json").write_text('{"build_key":')
    whole = str(world.built)
    for sources in ((str(torn), whole), (whole, str(torn)), (whole, "nowhere.json")):
        report = world.report(3, step, *sources, "--namespace", f"me-{len(sources[0])}")
        assert [f.exit_code for f in report.failures] == [RecordError.exit_code]
        assert sum(map(len, (report.artifacts, report.publications, report.staged))) == 1
    assert world.phi_bot(step, str(torn), "--namespace", "me")[0] == RecordError.exit_code


def test_a_damaged_source_fails_its_own_artifacts_and_no_others(world: World) -> None:
    """None of its artifacts was measured, so the source is read again, and found to be damaged."""
    broken = world.build(world.damaged)
    (broken / "evidence.json").unlink()
    report = world.report(3, "verify", str(broken), str(world.built))
    assert [a.folder for a in report.artifacts] == [str(world.built)]
    assert causes(report) == [(world.damaged.label, "verify", DamagedWeightsError.exit_code)]
    alone = world.report(DamagedWeightsError.exit_code, "verify", str(broken))
    assert alone.artifacts == ()


@pytest.mark.parametrize("command", ["build", "plan", "watch", "run"])
def test_a_model_that_is_not_there_holds_up_no_other(world: World, command: str) -> None:
    named = (world.gone.repo_id, world.whole.repo_id)
    variants = () if command == "watch" else ("-v", VARIANT)
    code, out, err = world.phi_bot(command, *named, *variants, "--json")
    assert code == IncompleteError.exit_code, err
    value = json.loads(out)
    if command == "watch":
        watched = WatchedSources.from_json(value)
        assert [s.repo_id for s in watched.sightings] == [world.whole.repo_id]
        assert [(n.repo_id, n.what) for n in watched.notices] == [(world.gone.repo_id, "unusable")]
        return
    if command == "plan":
        todo = Plan.from_json(value)
        assert [j.release.label for j in todo.jobs] == [world.whole.label]
        failures = todo.failures
    else:
        report = Report.from_json(value)
        assert [a.folder for a in report.artifacts] == [str(world.built)]
        failures = report.failures
    found = [(f.release, f.variant, f.step, f.exit_code) for f in failures]
    assert found == [(world.gone.repo_id, VARIANT, "plan", UnknownModelError.exit_code)]


def test_where_no_model_can_be_read_it_is_that_error(world: World) -> None:
    for command in ("build", "plan", "watch", "run"):
        code, out, _ = world.phi_bot(command, world.gone.repo_id, "microsoft/Phi-none")
        assert (code, out) == (UnknownModelError.exit_code, "")


def test_a_named_model_that_is_quantized_already_counts(world: World) -> None:
    """What a toolchain refuses of a set of variants is not a failure; a model that was asked for by name is one."""
    weights = models.safetensors({"model.embed_tokens.weight": ("BF16", [8, 4]), "model.norm.weight": ("U8", [4])})
    quantized = proven.put(world.hub, "microsoft/Phi-6-awq", model__safetensors=weights)
    code, out, err = world.phi_bot("plan", quantized, world.whole.repo_id, "-v", "gguf", "--json")
    assert code == 3, err
    todo = Plan.from_json(json.loads(out))
    assert {f.release.partition("@")[0] for f in todo.failures} == {quantized}
    assert [j.release.label for j in todo.jobs] == [world.whole.label]


@pytest.fixture
def stalling(hub: RunningHub) -> Iterator[Proxy]:
    with proxy(hub.url) as between:
        yield between


@pytest.mark.process
def test_ctrl_c_leaves_complete_artifacts(world: World, stalling: Proxy) -> None:
    """It comes while the source of the second of three jobs is downloaded."""
    slow = proven.release(world.hub, "microsoft/Phi-5-slow")
    path = f"{slow.repo_id}/resolve/{slow.commit}/model.safetensors"
    stalling.faults.append(Fault(method="GET", path=path, stall=4))
    plan = world.plan(world.whole, slow, world.damaged)
    process = subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "build", plan, "--json"],
        cwd=world.folder,
        env=os.environ | {"HF_ENDPOINT": stalling.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not stalling.count("GET", path):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Interrupted.exit_code, err
    report = Report.from_json(json.loads(out))
    assert [a.folder for a in report.artifacts] == [str(world.built)]
    assert causes(report) == [(r.label, "build", Interrupted.exit_code) for r in (slow, world.damaged)]
    assert "phi-bot: interrupted" in err
    (world.folder / "last.json").write_text(out)
    assert [a.folder for a in world.report(3, "verify", "last.json").artifacts] == [str(world.built)]
