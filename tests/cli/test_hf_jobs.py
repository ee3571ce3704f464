"""Schedules and webhooks by the command line, on an embedded Hub that runs jobs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import HfApi

from bot.cli import cli
from bot.errors import ConfigError, PhiBotError, TokenError
from bot.localhub import RunningHub, serve

pytestmark = pytest.mark.process

CONFIG = """
[watch]
authors = ["microsoft", "friends"]

[publish]
namespace = "demo.org"

[hf_jobs]
namespace = "payer"
setup = "exit 7"
"""

Run = Callable[..., Result]


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    """The client of the person."""
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def run(hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run phi-bot in a folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    (tmp_path / "phi-bot.toml").write_text(CONFIG)

    def call(*arguments: str) -> Result:
        done = CliRunner().invoke(cli, list(arguments))
        assert isinstance(done.exception, PhiBotError | SystemExit | None), done.exception
        return done

    return call


def answered(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_schedule_runs_the_bot_with_the_configuration(run: Run, api: HfApi, hub: RunningHub) -> None:
    done = run("schedule", "install", "--every", "@hourly")
    assert done.exit_code == 0, done.output
    assert "at most $0.06 (6 hours), paid by payer" in done.output
    assert "The token of local" in done.output
    assert hub.token not in done.output
    (made,) = api.list_scheduled_jobs(namespace="payer")
    spec = made.job_spec
    assert spec.command is not None
    assert spec.command[3:] == ["phi-bot", "run", "--on", "hf-jobs"]
    assert spec.environment is not None
    assert 'namespace = "demo.org"' in spec.environment["PHI_BOT_TOML"]
    assert list(spec.secrets or ()) == ["HF_TOKEN"]
    assert made.schedule == "@hourly"
    job = api.trigger_scheduled_job(scheduled_job_id=made.id, namespace="payer")
    assert api.wait_for_job(job_id=job.id, namespace="payer", poll_interval=0.05).status.message is not None


def test_installing_twice_changes_and_does_not_double(run: Run, api: HfApi) -> None:
    (first,) = answered(run("schedule", "install", "--json"))
    (second,) = answered(run("schedule", "install", "--every", "0 3 * * 1", "--flavor", "cpu-upgrade", "--json"))
    assert second["id"] != first["id"]
    assert (second["schedule"], second["flavor"]) == ("0 3 * * 1", "cpu-upgrade")
    assert answered(run("schedule", "list", "--json")) == [second]
    assert [s.id for s in api.list_scheduled_jobs(namespace="payer")] == [second["id"]]


def test_a_malformed_schedule_leaves_the_old_one(run: Run) -> None:
    (first,) = answered(run("schedule", "install", "--json"))
    assert run("schedule", "install", "--every", "often").exit_code != 0
    assert answered(run("schedule", "list", "--json")) == [first]


def test_schedules_of_others_are_left_alone(run: Run, api: HfApi) -> None:
    other = api.create_scheduled_job(image="x", command=["true"], schedule="@daily", namespace="payer")
    answered(run("schedule", "install", "--json", "--namespace", "someone"))
    answered(run("schedule", "install", "--json"))
    assert len(api.list_scheduled_jobs(namespace="payer")) == 3
    assert run("schedule", "remove").output == "1 removed.\n"
    assert run("schedule", "remove").output == "There was none.\n"
    assert other.id in [s.id for s in api.list_scheduled_jobs(namespace="payer")]


def test_a_webhook_watches_the_configured_authors(run: Run, api: HfApi, hub: RunningHub) -> None:
    (made,) = answered(run("webhook", "install", "--json"))
    assert made["authors"] == ["microsoft", "friends"]
    started = list(api.list_jobs(namespace="payer"))
    assert len(started) == 1  # its first run
    api.create_repo("microsoft/Phi-9")
    (job,) = [j for j in api.list_jobs(namespace="payer") if j.id != started[0].id]
    assert job.environment is not None
    assert job.environment["WEBHOOK_REPO_ID"] == "microsoft/Phi-9"
    assert list(job.secrets or ()) == ["HF_TOKEN"]
    assert hub.token not in repr(job)


def test_a_webhook_installed_twice_is_one(run: Run, api: HfApi, tmp_path: Path) -> None:
    (first,) = answered(run("webhook", "install", "--json"))
    (tmp_path / "phi-bot.toml").write_text(CONFIG.replace('"friends"', '"family"'))
    (second,) = answered(run("webhook", "install", "--json"))
    assert second == first | {"authors": ["microsoft", "family"]}
    assert answered(run("webhook", "list", "--json")) == [second]
    assert run("webhook", "remove").output == "1 removed.\n"
    assert api.list_webhooks() == []


@pytest.mark.parametrize("what", ["schedule", "webhook"])
def test_a_dry_run_installs_and_removes_nothing(run: Run, api: HfApi, tmp_path: Path, what: str) -> None:
    answered(run(what, "install", "--json"))
    before = answered(run(what, "list", "--json"))
    started = len(list(api.list_jobs(namespace="payer")))
    (tmp_path / "phi-bot.toml").write_text(CONFIG + "\n[run]\ndry_run = true\n")
    assert "nothing was installed" in run(what, "install").output
    assert "1 would be removed" in run(what, "remove").output
    assert answered(run(what, "list", "--json")) == before
    assert len(list(api.list_jobs(namespace="payer"))) == started


@pytest.mark.parametrize("what", ["schedule", "webhook"])
def test_missing_settings_are_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    assert isinstance(run(what, "install", "--flavor", "quantum").exception, ConfigError)
    (tmp_path / "phi-bot.toml").write_text("")
    assert isinstance(run(what, "install").exception, ConfigError)
    monkeypatch.delenv("HF_TOKEN")
    assert isinstance(run(what, "install", "--namespace", "demo").exception, TokenError)
