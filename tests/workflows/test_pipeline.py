"""The pipeline as a whole: watch, build and promote, each job with the token of its environment and no other."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.hub import client
from bot.hub.local import RunningHub, serve
from bot.hub.local.tokens import Grant
from bot.progress import Silent
from bot.records import Report
from bot.toolchains.install import cache_folder
from tests.action.runner import Runner
from tests.workflows.engine import Ended, Engine

pytestmark = [pytest.mark.toolchain, pytest.mark.process]

RELEASE = "microsoft/Phi-3.5-sample-instruct"
PUBLISHED = "demo/Phi-3.5-sample-instruct-GGUF"
CONFIG = '[build]\nwork = "work"\nvariants = ["gguf/q4_k_m", "gguf/f16"]\n\n[publish]\nnamespace = "demo"\n'
HOURLY = {"name": "schedule"}

SECRETS = {
    "plan": {"PLAN_TOKEN": "hub_plan"},
    "stage": {"STAGE_TOKEN": "hub_stage"},
    "promote": {"PROMOTE_TOKEN": "hub_promote"},
}
GRANTS = {
    "hub_plan": Grant(name="bot", scope="write", namespaces=("datasets/demo/phi-bot-state",)),
    "hub_stage": Grant(name="bot", scope="write", namespaces=("demo/phi-bot-staging",)),
    "hub_promote": Grant(name="demo", scope="write", namespaces=("demo",)),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[RunningHub]:
    """A Hub with a release, and what a publisher makes there once."""
    with serve(tmp_path_factory.mktemp("pipeline") / "hub", tokens=GRANTS) as running:
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
        with Silent().task("release") as task:
            client.connect(running.url, running.token).commit(
                RELEASE, files=files, parent=None, message="Release", task=task
            )
        api = HfApi(endpoint=running.url, token=running.token)
        api.create_repo("demo/phi-bot-staging")
        api.create_repo("demo/phi-bot-state", repo_type="dataset", private=True)
        yield running


@pytest.fixture(scope="module")
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNNER_TEMP of all machines; each finds the environment of the action there, and nothing else."""
    return tmp_path_factory.mktemp("temp")


@pytest.fixture
def engine(hub: RunningHub, tmp_path: Path, temp: Path) -> Engine:
    """A publisher's repository on GitHub, with a fresh machine for each job."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "phi-bot.toml").write_text(CONFIG)
    return Engine(
        repository=repository,
        workspaces=tmp_path / "machines",
        secrets=SECRETS,
        machine=lambda workspace: fresh(temp, workspace, hub),
    )


def fresh(temp: Path, workspace: Path, hub: RunningHub) -> Runner:
    """A machine that has nothing of other jobs but the environment of the action, which takes 20 seconds to make."""
    for left in temp.iterdir():
        if not (left / "complete.txt").exists():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(workspace.parent / f"{workspace.name}-home"),
        "PHI_BOT_CACHE": str(cache_folder().parent),
    }
    return Runner(temp=temp, workspace=workspace, environment=environment)


def results(ended: list[Ended]) -> list[tuple[str, str]]:
    """Return the jobs that ran, and how they ended. A failure shows what they said."""
    log = "\n".join(done.log for e in ended for done in e.uses)
    print(log)
    assert not any(token in log for token in GRANTS)
    return [(e.name, e.result) for e in ended]


def test_a_release_goes_through_three_jobs_that_hold_a_token_each(engine: Engine, hub: RunningHub) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    ended = engine.run("watch.yml", HOURLY)
    assert results(ended) == [("plan", "success"), ("build", "success"), ("promote", "success")]
    assert [e.runs_on for e in ended] == ["ubuntu-24.04", ["ubuntu-24.04"], "ubuntu-24.04"]
    assert "phi-bot.json" in api.list_repo_files(PUBLISHED)
    (report,) = engine.artifacts.values()
    assert len(Report.from_json(json.loads(report["report.json"])).staged) == 2
    assert [u.saved for e in ended if e.name != "build" for u in e.uses] == [(), ()], "no cache where there is a right"

    head = api.model_info(PUBLISHED).sha
    engine.artifacts.clear()
    assert results(engine.run("watch.yml", HOURLY)) == [("plan", "success"), ("promote", "success")]
    assert results(engine.run("watch.yml", HOURLY, **{"only-when-built": True})) == [("plan", "success")]
    assert api.model_info(PUBLISHED).sha == head


def test_a_dry_run_stages_and_publishes_nothing(engine: Engine, hub: RunningHub) -> None:
    (engine.repository / "phi-bot.toml").write_text(CONFIG.replace('"demo"', '"demo"\nstaging = "elsewhere"'))
    assert results(engine.run("watch.yml", HOURLY, variants="gguf/q8_0", **{"dry-run": True})) == [
        ("plan", "success"),
        ("promote", "success"),
    ]
    assert not HfApi(endpoint=hub.url, token=hub.token).repo_exists("demo/elsewhere")


def test_a_job_that_holds_the_token_of_another_does_not_get_far(engine: Engine) -> None:
    engine.secrets = {**SECRETS, "stage": {"STAGE_TOKEN": "hub_plan"}}
    ended = engine.run("watch.yml", HOURLY, variants="gguf/q8_0")
    assert results(ended) == [("plan", "success"), ("build", "failure"), ("promote", "failure")]
    assert [d.data for u in ended[2].uses for d in u.errors] == [d.data for u in ended[1].uses for d in u.errors]
    (failure,) = Report.from_json(json.loads(engine.artifacts["report-0"]["report.json"])).failures
    assert failure.step == "stage"
