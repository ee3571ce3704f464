"""The pipeline as a whole, executed from its YAML: each job with the token of its environment and no other."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.hub import client
from bot.localhub import RunningHub, serve
from bot.localhub.tokens import Grant
from bot.progress import Silent
from bot.records.artifacts import Report
from tests import github_answers, github_server
from tests.action.environment import lend_environment
from tests.action.runner import Runner
from tests.github_server import GitHub
from tests.warm import warm_cache
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
    return lend_environment(tmp_path_factory.mktemp("machines") / "temp", tmp_path_factory)


@pytest.fixture
def engine(hub: RunningHub, temp: Path, tmp_path: Path) -> Engine:
    """A publisher's repository on GitHub, with a fresh machine for each job."""
    (tmp_path / "repository/main").mkdir(parents=True)
    (tmp_path / "repository/main/phi-bot.toml").write_text(CONFIG)
    return Engine(
        repository=tmp_path / "repository",
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
        "PHI_BOT_CACHE": str(warm_cache()),
    }
    return Runner(temp=temp, workspace=workspace, environment=environment)


def results(ended: list[Ended]) -> list[tuple[str, str]]:
    """Return the jobs that ran, and how they ended. A failure shows what they said."""
    log = "\n".join(done.log for e in ended for done in e.uses)
    print(log)
    assert not any(token in log for token in GRANTS)
    return [(e.name, e.result) for e in ended]


def errors(ended: list[Ended]) -> str:
    """Return the annotations of a run."""
    return "\n".join(error.data for e in ended for done in e.uses for error in done.errors)


# ---- on a schedule -------------------------------------------------------------------------------------------


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
    (engine.repository / "main/phi-bot.toml").write_text(f'{CONFIG}staging = "elsewhere"\n')
    ended = engine.run("watch.yml", HOURLY, variants="gguf/q5_k_m", **{"dry-run": True})
    assert results(ended) == [("plan", "success"), ("promote", "success")]
    assert not HfApi(endpoint=hub.url, token=hub.token).repo_exists("demo/elsewhere")


def test_a_job_that_holds_the_token_of_another_does_not_get_far(engine: Engine) -> None:
    engine.secrets = {**SECRETS, "stage": {"STAGE_TOKEN": "hub_plan"}}
    ended = engine.run("watch.yml", HOURLY, variants="gguf/q5_k_m")
    assert results(ended) == [("plan", "success"), ("build", "failure"), ("promote", "failure")]
    assert errors(ended[1:2]) == errors(ended[2:]), "it was not held up, and says again what failed"
    (failure,) = Report.from_json(json.loads(engine.artifacts["report-0"]["report.json"])).failures
    assert failure.step == "stage"


# ---- by pull request -----------------------------------------------------------------------------------------

BASE, HEAD = "b" * 40, "a" * 40


@pytest.fixture
def github() -> Iterator[GitHub]:
    """GitHub's API, with a pull request of a fork's. A maintainer may write in the repository, a stranger may not."""
    with github_server.serve() as running:
        running.permissions = {"maintainer": ("write", "maintain"), "stranger": ("read", "read")}
        running.pulls = [github_answers.pull(running.api, 7, head="someone/r", sha=HEAD)]
        yield running


@pytest.fixture
def own(engine: Engine, github: GitHub) -> Engine:
    """This project's own repository, with a base and a head that builds another variant."""
    machine = engine.machine

    def with_github(workspace: Path) -> Runner:
        runner = machine(workspace)
        runner.environment |= {"GITHUB_API_URL": github.api}
        return runner

    config = f'{CONFIG}\n[reconvert]\nmodels = ["{RELEASE}"]\n'
    for ref, text in {"main": config, BASE: config, HEAD: config.replace("q4_k_m", "q8_0")}.items():
        (engine.repository / ref / ".github").mkdir(parents=True)
        (engine.repository / ref / ".github/phi-bot.toml").write_text(text)
        (engine.repository / ref / "phi-bot.toml").write_text(text)
    return replace(engine, machine=with_github, own=True)


def pull_event(name: str, action: str, *, origin: str = "someone/r", **more: object) -> dict[str, object]:
    """Return the event of a pull request, as far as workflows look at it."""
    pull = {
        "number": 7,
        "labels": [{"name": "bug"}, {"name": f"convert:{RELEASE}"}],
        "head": {"sha": HEAD, "repo": {"full_name": origin}},
        "base": {"sha": BASE, "ref": "main"},
        "user": {"login": "someone"},
    }
    return {"name": name, "action": action, "pull_request": pull, **more}


def labeled(name: str, by: str) -> dict[str, object]:
    return pull_event(name, "labeled", label={"name": f"convert:{RELEASE}"}, sender={"login": by})


def run_event(head: str = HEAD) -> dict[str, object]:
    """Return the event that a run of convert.yml is over, for a fork's pull request: it names none."""
    run = {
        "id": 1,
        "event": "pull_request",
        "conclusion": "success",
        "head_sha": head,
        "head_branch": "topic",
        "head_repository": {"full_name": "someone/r"},
        "pull_requests": [],
    }
    return {"name": "workflow_run", "action": "completed", "workflow_run": run}


def test_a_label_becomes_a_pull_request_on_the_hub_that_is_merged_with_the_one_here(
    own: Engine, engine: Engine, hub: RunningHub, github: GitHub
) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    if not api.repo_exists(PUBLISHED):
        assert ("promote", "success") in results(engine.run("watch.yml", HOURLY))
    assert results(own.run("candidates.yml", labeled("pull_request_target", "maintainer"))) == [("approve", "success")]
    assert results(own.run("convert.yml", labeled("pull_request", "maintainer"))) == [
        ("plan", "success"),
        ("build", "success"),
    ]
    assert results(own.run("candidates.yml", run_event())) == [("propose", "success")]
    (proposal,) = api.get_repo_discussions(PUBLISHED)
    assert (proposal.is_pull_request, proposal.status) == (True, "open")
    assert any("q8_0" in name.lower() for name in api.list_repo_files(PUBLISHED, revision="refs/pr/1"))
    assert not any("q8_0" in name.lower() for name in api.list_repo_files(PUBLISHED))

    github.pulls[0] |= {"state": "closed", "merged_at": github.pulls[0]["created_at"]}
    assert results(own.run("candidates.yml", pull_event("pull_request_target", "closed"))) == [("conclude", "success")]
    assert any("q8_0" in name.lower() for name in api.list_repo_files(PUBLISHED))


def test_a_label_of_a_strangers_comes_off_and_builds_nothing_that_leaves_github(own: Engine, github: GitHub) -> None:
    github.pulls[0]["labels"] = [github_answers.label(github.api, f"convert:{RELEASE}")]
    ended = own.run("candidates.yml", labeled("pull_request_target", "stranger"))
    assert results(ended) == [("approve", "failure")]
    assert "stranger may not ask for conversions" in errors(ended)
    assert github.pulls[0]["labels"] == []
    own.artifacts = {"candidate-0": {"artifact/build.json": b"{}"}}
    ended = own.run("candidates.yml", run_event())
    assert results(ended) == [("propose", "failure")]
    assert github.comments.get(7, []) == []


def test_a_push_after_the_label_is_not_approved(own: Engine, github: GitHub) -> None:
    assert results(own.run("candidates.yml", labeled("pull_request_target", "maintainer"))) == [("approve", "success")]
    pushed = "c" * 40
    github.pulls[0] = github_answers.pull(github.api, 7, head="someone/r", sha=pushed)
    own.artifacts = {"candidate-0": {"artifact/build.json": b"{}"}}
    for head in (HEAD, pushed):
        ended = own.run("candidates.yml", run_event(head))
        assert results(ended) == [("propose", "failure")]
        assert head[:12] in errors(ended)


def test_other_labels_and_pull_requests_without_one_start_nothing(own: Engine) -> None:
    event = pull_event("pull_request_target", "labeled", label={"name": "bug"}, sender={"login": "maintainer"})
    assert own.run("candidates.yml", event) == []
    assert own.run("convert.yml", event) == []
    event = pull_event("pull_request_target", "closed")
    event["pull_request"] |= {"labels": [{"name": "bug"}]}  # type: ignore[operator]
    assert own.run("candidates.yml", event) == []


@pytest.mark.parametrize(("origin", "jobs"), [("o/r", ["compare", "comment"]), ("someone/r", ["compare"])])
@pytest.mark.parametrize("here", [True, False], ids=["this project's", "a publisher's"])
def test_a_pull_request_is_compared_and_a_forks_is_not_commented_on(
    own: Engine, github: GitHub, origin: str, jobs: list[str], here: bool
) -> None:
    own.own = here
    ended = own.run("reconvert.yml", pull_event("pull_request", "synchronize", origin=origin))
    assert results(ended) == [(job, "success") for job in jobs]
    assert ended[0].uses[0].summary
    assert len(github.comments.get(7, [])) == len(jobs) - 1
