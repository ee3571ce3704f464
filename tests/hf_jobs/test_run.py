"""Plans that are built on Hugging Face Jobs; here those of an embedded Hub, where the image's setup decides all."""

import _thread
import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot import catalogue, config
from bot.config import Config
from bot.config.places import SignTable
from bot.errors import ConfigError, RemoteJobError, TokenError
from bot.hf_jobs import run
from bot.hf_jobs.run import environment, job_requests, phi_bot, submit
from bot.hub import jobs
from bot.hub.client import Hub, connect
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Release
from bot.records.digests import digest_of
from bot.records.plans import Estimate, Job, Placement, Plan, PlannedVariant
from tests.contexts import context_of
from tests.steps import proven

RELEASE = Release(repo_id="microsoft/Phi-4", commit="c" * 40, content_digest="d" * 64, files=(), config={})


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


@pytest.fixture
def client(hub: RunningHub) -> Hub:
    """Its client, with a token that may do everything."""
    return connect(hub.url, hub.token)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again soon: these jobs take no hours."""
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.05)


class Said(Silent):
    """A display that remembers what was said."""

    def __init__(self, then: Callable[[str], None] = lambda _: None) -> None:
        self.lines: list[str] = []
        self.then = then

    def say(self, text: str) -> None:
        """Remember."""
        self.lines.append(text)
        self.then(text)


def settings(setup: str, *, namespace: str | None = "demo", factor: float = 3.0) -> Config:
    given = config.load(Path("/dev/null"), environ={})
    return dataclasses.replace(
        given,
        hf_jobs=replace(given.hf_jobs, setup=setup, time_factor=factor),
        publish=replace(given.publish, namespace=namespace),
    )


def job(name: str, *, release: Release = RELEASE, runner: str | None = "hf-jobs/cpu-basic", seconds: float = 60) -> Job:
    (variant,) = catalogue.select([name])
    planned = PlannedVariant(
        variant=variant,
        build_key=digest_of(name),
        repo_id=f"demo/Phi-4-{variant.format}",
        path_in_repo="",
    )
    return Job(
        release=release,
        format=variant.format,
        variants=(planned,),
        toolchain_digest="f" * 64,
        estimate=Estimate(output=1, disk=1, memory=1),
        placement=Placement(runner=runner, seconds=seconds, cost=0.0) if runner else None,
    )


def plan(*given: Job) -> Plan:
    return Plan(jobs=given, done=(), failures=())


def there(client: Hub) -> list[str]:
    return [j.id for j in client.api.list_jobs(namespace="demo")]


DISKS = {"hf-jobs/cpu-basic": 50 * 10**9, "hf-jobs/cpu-xl": 10**12}


def test_one_download_serves_all_jobs_of_a_release_on_a_flavor() -> None:
    other = replace(RELEASE, repo_id="microsoft/Phi-5")
    given = [job("gguf/q4_k_m"), job("mlx/4bit"), job("openvino/int4", runner="hf-jobs/cpu-xl")]
    found = list(job_requests([*given, job("gguf/q4_k_m", release=other)], DISKS))
    assert [(e.release.name, e.flavor, [j.format for j in e.jobs]) for e in found] == [
        ("Phi-4", "cpu-basic", ["gguf", "mlx"]),
        ("Phi-4", "cpu-xl", ["openvino"]),
        ("Phi-5", "cpu-basic", ["gguf"]),
    ]
    assert found[0].seconds == 120


def test_jobs_that_would_fill_a_disk_go_to_two() -> None:
    large = Estimate(output=30 * 10**9, disk=0, memory=1)
    given = [replace(job(name), estimate=large) for name in ("gguf/q4_k_m", "mlx/4bit")]
    assert [[j.format for j in e.jobs] for e in job_requests(given, DISKS)] == [["gguf"], ["mlx"]]


def test_arguments_never_become_part_of_the_script() -> None:
    evil = "x; rm -rf / $(reboot) `reboot` ' \""
    command = phi_bot(["run", evil], settings("pip install phi-bot"))
    assert command[:2] == ("bash", "-c")
    assert evil not in command[2]
    assert command[3:] == ("phi-bot", "run", evil)
    assert phi_bot([], settings(""))[2] == 'exec phi-bot "$@"'


def test_the_configuration_travels_without_this_machines_own_settings(tmp_path: Path) -> None:
    given = settings("").replace(work=tmp_path)
    given = replace(given, publish=replace(given.publish, sign=SignTable(key=tmp_path / "key.pem")))
    found = environment(given)
    assert set(found) == {"HF_ENDPOINT", "PHI_BOT_TOML"}
    assert "key.pem" not in found["PHI_BOT_TOML"]
    assert str(tmp_path) not in found["PHI_BOT_TOML"]


def test_a_job_runs_the_command_that_would_run_here(client: Hub, hub: RunningHub) -> None:
    setup = 'phi-bot() { printf "<%s>" "$@"; echo; echo "${#HF_TOKEN} $HF_ENDPOINT"; }; exec() { "$@"; }'
    said = Said()
    submit(plan(job("gguf/q4_k_m"), job("mlx/4bit")), context_of(settings(setup), hub=client, display=said))
    mark = "Phi-4 gguf+mlx cpu-basic"
    args = f"<run><microsoft/Phi-4@{'c' * 40}><--variants><gguf/q4_k_m,mlx/4bit><--namespace><demo>"
    assert said.lines[1:] == [f"{mark} | {args}", f"{mark} | {len(hub.token)} {hub.url}"]
    assert said.lines[0].startswith(f"{mark}: started {hub.url}/jobs/demo/")


def test_a_job_stages_where_others_promote(client: Hub, hub: RunningHub, tmp_path: Path) -> None:
    release = proven.release(hub)
    left = proven.artifact(tmp_path, release)
    given = replace(
        job("gguf/q4_k_m", release=release),
        variants=(replace(job("gguf/q4_k_m").variants[0], build_key=left.build.build_key),),
    )
    said = Said()
    missing = submit(plan(given), context_of(settings("exit 0"), hub=client, display=said), staged=True)
    assert [f.message for f in missing.failures] == ["its job ended as COMPLETED"]
    setup = (
        f"cd {tmp_path}; {sys.executable} -m bot.cli stage {left.folder} --namespace demo --quiet;"
        ' phi-bot() { echo "${@: -1}"; }; exec() { "$@"; }'
    )
    report = submit(plan(given), context_of(settings(setup), hub=client, display=said), staged=True)
    assert report.failures == ()
    assert [s.build for s in report.staged] == [left.build]
    assert said.lines[-1].endswith("| --stage")


@pytest.mark.parametrize(("seconds", "limit"), [(60, 1800), (3600, 7200)])
def test_a_job_has_a_time_limit(client: Hub, hub: RunningHub, seconds: float, limit: int) -> None:
    found = settings("exit 1", factor=2.0)
    submit(plan(job("gguf/q4_k_m", seconds=seconds)), context_of(found, hub=client, display=Said()))
    (state,) = hub.automation.jobs.all("demo")
    assert (state.spec.flavor, state.spec.timeout) == ("cpu-basic", limit)


def test_a_job_that_fails_is_a_failure_of_each_variant(client: Hub) -> None:
    said = Said()
    report = submit(
        plan(job("gguf/q4_k_m"), job("mlx/4bit")), context_of(settings("echo no; exit 9"), hub=client, display=said)
    )
    assert report.publications == ()
    assert [f.variant for f in report.failures] == ["gguf/q4_k_m", "mlx/4bit"]
    for failed in report.failures:
        assert failed.exit_code == RemoteJobError.exit_code
        assert "exit code: 9" in failed.message
        assert "/jobs/demo/" in failed.hint
    assert any(line.endswith("| no") for line in said.lines)


def test_a_job_that_says_it_completed_is_not_believed(client: Hub) -> None:
    report = submit(plan(job("gguf/q4_k_m")), context_of(settings("exit 0"), hub=client, display=Said()))
    assert [f.message for f in report.failures] == ["its job ended as COMPLETED"]
    assert report.publications == ()


def test_several_jobs_run_at_once(client: Hub, tmp_path: Path) -> None:
    # each waits for the other: one after the other, they would wait for ever
    setup = f"touch {tmp_path}/$JOB_ID.here; until [ $(ls {tmp_path}/*.here | wc -l) = 2 ]; do sleep 0.05; done; exit 5"
    given = plan(job("gguf/q4_k_m"), job("openvino/int4", runner="hf-jobs/cpu-xl"))
    report = submit(given, context_of(settings(setup), hub=client, display=Said()))
    assert ["exit code: 5" in f.message for f in report.failures] == [True, True]


def test_the_output_of_a_job_cannot_control_the_terminal(client: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from bot.progress import Lines

    display = Lines(Console(stderr=True, force_terminal=False))
    submit(
        plan(job("gguf/q4_k_m")),
        context_of(settings(r"printf '\033]0;owned\a\r\n'; exit 1"), hub=client, display=display),
    )
    out = capsys.readouterr().err
    assert "owned" in out
    assert "\x1b" not in out
    assert "\a" not in out


def test_a_bot_that_is_killed_finds_its_job_again(client: Hub, tmp_path: Path) -> None:
    setup = f"echo begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 6"
    given = plan(job("gguf/q4_k_m"))

    def interrupt(line: str) -> None:
        if line.endswith("| begun"):
            _thread.interrupt_main()

    said = Said(interrupt)
    with pytest.raises(KeyboardInterrupt):
        submit(given, context_of(settings(setup), hub=client, display=said))
    (first,) = there(client)
    assert any("goes on" in line and first in line and "hf jobs cancel" in line for line in said.lines)

    def let_go(line: str) -> None:
        if "running already" in line:
            (tmp_path / "go").touch()

    report = submit(given, context_of(settings(setup), hub=client, display=Said(let_go)))
    assert there(client) == [first]
    assert ["exit code: 6" in f.message for f in report.failures] == [True]


def test_a_job_that_cannot_run_elsewhere_is_a_failure(client: Hub, tmp_path: Path) -> None:
    folder = replace(RELEASE, repo_id="local/phi", commit=None, folder=str(tmp_path))
    given = plan(job("gguf/q4_k_m", release=folder), job("mlx/4bit", runner=None), job("mlx/8bit", runner="local"))
    report = submit(given, context_of(settings("exit 1"), hub=client, display=Said()))
    assert [f.exit_code for f in report.failures] == [ConfigError.exit_code] * 3
    assert there(client) == []


def test_without_a_namespace_nothing_is_started(client: Hub) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        submit(plan(job("gguf/q4_k_m")), context_of(settings("", namespace=None), hub=client, display=Said()))


def test_without_a_token_nothing_is_started(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(TokenError):
        submit(plan(job("gguf/q4_k_m")), context_of(settings(""), hub=connect(hub.url), display=Said()))


def test_a_token_that_may_run_no_jobs_fails_them(hub: RunningHub) -> None:
    token = hub.hub.tokens.make("stranger", "write", ())
    report = submit(plan(job("gguf/q4_k_m")), context_of(settings(""), hub=connect(hub.url, token), display=Said()))
    assert [f.exit_code for f in report.failures] == [TokenError.exit_code]


def test_a_job_that_is_cancelled_is_said_to_be(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(line: str) -> None:
        if line.endswith("| begun"):
            client.api.cancel_job(job_id=there(client)[0], namespace="demo")

    report = submit(
        plan(job("gguf/q4_k_m")), context_of(settings("echo begun; sleep 60"), hub=client, display=Said(cancel))
    )
    assert ["CANCELED" in f.message for f in report.failures] == [True]


def test_a_job_at_its_time_limit_is_said_to_be(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHORTEST", 1)
    given = plan(job("gguf/q4_k_m", seconds=0.1))
    report = submit(given, context_of(settings("sleep 60"), hub=client, display=Said()))
    assert ["timeout" in f.message for f in report.failures] == [True]
