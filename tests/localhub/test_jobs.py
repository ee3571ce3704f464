"""Jobs of the embedded Hub, asked for with the real client."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, Volume
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import Grant, RunningHub, job_log, serve
from tests.lives import lives
from tests.localhub.jobs_of import NAMESPACE, eventually, finish, inspect, logs, python, shell

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


def test_a_job_runs_prints_and_completes(api: HfApi) -> None:
    job = shell(api, "echo one; echo two >&2; sleep 0.2; echo three", labels={"model": "phi"})
    assert job.status.stage in ("SCHEDULING", "RUNNING")
    assert logs(api, job) == ["one", "two", "three"]
    job = inspect(api, job)
    assert (job.status.stage, job.status.message) == ("COMPLETED", None)
    assert job.docker_image == "python:3.12"  # remembered, not used
    assert job.labels is not None
    assert job.labels["model"] == "phi"
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at <= job.finished_at


def test_a_log_is_followed_while_the_job_runs(api: HfApi) -> None:
    job = shell(api, "echo first; read -t 30 < <(sleep 30); echo last")
    lines = iter(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, follow=True))
    assert next(lines) == "first"
    assert inspect(api, job).status.stage == "RUNNING"
    api.cancel_job(job_id=job.id, namespace=NAMESPACE)
    assert list(lines) == []


def test_the_end_of_a_log_can_be_asked_for(api: HfApi) -> None:
    job = finish(api, shell(api, "seq 1 100"))
    assert list(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, tail=2)) == ["99", "100"]


def test_any_bytes_in_a_log_are_one_line_each(api: HfApi) -> None:
    job = shell(api, r"printf 'a\xffb\xe2\x80\xa8c\r\n\x1b[31mred\n'")
    assert logs(api, job) == ["a\ufffdb\u2028c", "\x1b[31mred"]


def test_a_log_has_a_bound(api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "MOST_BYTES", 2000)
    found = logs(api, shell(api, "seq 1 10000"))
    assert "left out" in found[-1]
    assert len(found) < 100


def test_a_job_that_fails_says_with_which_code(api: HfApi) -> None:
    job = finish(api, shell(api, "exit 3"))
    assert (job.status.stage, job.status.message) == ("ERROR", "Job failed with exit code: 3")


def test_a_command_that_is_not_there_is_said(api: HfApi) -> None:
    job = api.run_job(image="x", command=["no-such-command"], namespace=NAMESPACE)
    message = finish(api, job).status.message
    assert message is not None
    assert "127" in message


def test_a_job_is_tried_as_often_as_asked(api: HfApi) -> None:
    job = shell(api, "echo again; exit 1", attempts=3)
    assert logs(api, job) == ["again"] * 3
    assert inspect(api, job).retry == 2


def test_a_job_is_ended_at_its_time_limit_with_its_children(api: HfApi) -> None:
    job = shell(api, "sleep 60 & echo $!; wait", timeout=1)
    (child,) = logs(api, job)
    job = inspect(api, job)
    assert job.status.stage == "ERROR"
    assert job.status.message is not None
    assert "timeout" in job.status.message
    eventually(lambda: not lives(int(child)))


def test_processes_that_a_job_leaves_running_end_with_it(api: HfApi) -> None:
    job = shell(api, "sleep 60 & echo $!")
    (child,) = logs(api, job)
    assert inspect(api, job).status.stage == "COMPLETED"
    eventually(lambda: not lives(int(child)))


def test_a_job_can_be_cancelled(api: HfApi) -> None:
    job = shell(api, "trap '' TERM; echo started; sleep 60")
    next(iter(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, follow=True)))
    api.cancel_job(job_id=job.id, namespace=NAMESPACE)
    assert finish(api, job).status.stage == "CANCELED"
    api.cancel_job(job_id=job.id, namespace=NAMESPACE)  # once more changes nothing
    assert inspect(api, job).status.stage == "CANCELED"


def test_a_job_starts_in_an_empty_folder_that_goes_with_it(api: HfApi) -> None:
    job = shell(api, "ls -A | wc -l; pwd; echo $HOME; echo x > file")
    files, folder, home = logs(api, job)
    assert files.strip() == "0"
    assert folder == home
    finish(api, job)
    assert not Path(folder).exists()


def test_nothing_of_the_servers_environment_reaches_a_job(api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "of-the-server")
    monkeypatch.setenv("PHI_BOT_SECRET", "of-the-server")
    job = python(api, "import os; print(*sorted(os.environ))", env={"MINE": "1"}, secrets={"HF_TOKEN": SECRET})
    (names,) = logs(api, job)
    usual = {"HOME", "JOB_ID", "LANG", "LC_CTYPE", "PATH", "TMPDIR"}
    assert set(names.split()) - usual == {"HF_TOKEN", "MINE"}


def test_secrets_reach_the_job_and_nothing_else(api: HfApi, hub: RunningHub) -> None:
    script = f"import os; assert os.environ['HF_TOKEN'] == '{SECRET[:8]}' + '{SECRET[8:]}'; print('it has it')"
    job = python(api, script, secrets={"HF_TOKEN": SECRET})
    assert list(job.secrets or ()) == ["HF_TOKEN"]
    assert logs(api, job) == ["it has it"]
    answers = [job, finish(api, job), *api.list_jobs(namespace=NAMESPACE)]
    assert all(SECRET not in repr(a) for a in answers)
    files = [p for p in hub.hub.folder.rglob("*") if p.is_file()]
    assert any(p.name == "job.json" for p in files)
    assert all(SECRET.encode() not in p.read_bytes() for p in files)


def test_jobs_are_found_by_stage_and_label(api: HfApi) -> None:
    jobs = [finish(api, shell(api, f"exit {n}", labels={"n": str(n), "kind": "exit"})) for n in (0, 1, 2)]
    everything = [j.id for j in api.list_jobs(namespace=NAMESPACE)]
    assert sorted(everything) == sorted(j.id for j in jobs)
    failed = api.list_jobs(namespace=NAMESPACE, status=["ERROR", "CANCELED"], labels={"kind": "exit"})
    assert {j.id for j in failed} == {j.id for j in jobs[1:]}
    assert [j.id for j in api.list_jobs(namespace=NAMESPACE, labels={"n": "2", "kind": "exit"})] == [jobs[2].id]
    api.update_job_labels(job_id=jobs[0].id, labels={"n": "9"}, namespace=NAMESPACE)
    assert [j.id for j in api.list_jobs(namespace=NAMESPACE, labels={"n": "9"})] == [jobs[0].id]


def test_a_job_can_be_started_again(api: HfApi) -> None:
    script = "import os; print(os.environ['WHO'], len(os.environ['HF_TOKEN']))"
    job = python(api, script, env={"WHO": "me"}, secrets={"HF_TOKEN": SECRET})
    again = api.rerun_job(job_id=job.id, namespace=NAMESPACE)
    assert logs(api, again) == logs(api, job) == [f"me {len(SECRET)}"]
    assert again.initiator is not None
    assert (again.initiator.type, again.initiator.id) == ("duplicated-job", job.id)


def test_hardware_has_the_shape_that_the_client_reads(api: HfApi) -> None:
    found = {h.name: h for h in api.list_jobs_hardware()}
    basic = found["cpu-basic"]
    assert (basic.ram, basic.accelerator, basic.unit_label) == ("16 GB", None, "minute")
    assert basic.unit_cost_usd * 60 == pytest.approx(0.01, abs=0.0005)
    gpu = found["l4x1"].accelerator
    assert gpu is not None
    assert gpu.vram == "24 GB"


def test_a_stranger_sees_and_does_nothing(api: HfApi, client: Callable[[Grant], HfApi], hub: RunningHub) -> None:
    job = shell(api, "sleep 60")
    stranger = client(Grant(name="stranger", scope="write", namespaces=()))
    for attempt in (
        lambda: list(stranger.list_jobs(namespace=NAMESPACE)),
        lambda: inspect(stranger, job),
        lambda: logs(stranger, job),
        lambda: stranger.cancel_job(job_id=job.id, namespace=NAMESPACE),
        lambda: shell(stranger, "true"),
        lambda: list(HfApi(endpoint=hub.url, token=False).list_jobs(namespace=NAMESPACE)),
    ):
        with pytest.raises(HfHubHTTPError) as raised:
            attempt()
        assert raised.value.response.status_code in (401, 403)
    assert inspect(api, job).status.stage in ("SCHEDULING", "RUNNING")


def test_a_token_that_reads_sees_jobs_and_starts_none(api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    job = finish(api, shell(api, "true"))
    reader = client(Grant(name="reader", scope="read", namespaces=(NAMESPACE,)))
    assert inspect(reader, job).id == job.id
    with pytest.raises(HfHubHTTPError, match="may only read"):
        shell(reader, "true")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"flavor": "quantum"}, "flavor"),
        ({"env": {"A B": "x"}}, "environment"),
        ({"labels": {"a": "b c"}}, "labels"),
        ({"attempts": 99}, "attempts"),
        ({"volumes": [Volume(type="model", source="a/b", mount_path="/m")]}, "volumes"),
    ],
)
def test_an_impossible_job_is_refused(api: HfApi, more: dict[str, object], said: str) -> None:
    with pytest.raises(HfHubHTTPError, match=said) as raised:
        shell(api, "true", **more)
    assert raised.value.response.status_code == 400


@pytest.mark.server
def test_a_hub_that_was_not_told_to_run_jobs_runs_none(tmp_path: Path, unsynced: None) -> None:
    with serve(tmp_path / "hub") as running:
        api = HfApi(endpoint=running.url, token=running.token)
        assert list(api.list_jobs(namespace=NAMESPACE)) == []
        for attempt in (
            lambda: shell(api, "true"),
            lambda: api.create_scheduled_job(image="x", command=["true"], schedule="@daily", namespace=NAMESPACE),
        ):
            with pytest.raises(HfHubHTTPError, match="--jobs"):
                attempt()


@pytest.mark.server
def test_a_server_that_ends_ends_its_jobs(tmp_path: Path, unsynced: None) -> None:
    with serve(tmp_path / "hub", jobs=True) as running:
        api = HfApi(endpoint=running.url, token=running.token)
        job = shell(api, "echo $$; sleep 60")
        (pid,) = [next(iter(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, follow=True)))]
    assert not lives(int(pid))
    with serve(tmp_path / "hub", jobs=True) as running:
        api = HfApi(endpoint=running.url, token=running.token)
        job = inspect(api, job)
        assert (job.status.stage, job.status.message) == ("ERROR", "the Hub that ran it ended")


@pytest.mark.server
def test_a_server_that_is_killed_takes_its_jobs_with_it(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from bot.localhub import serve_forever\n"
    script += "serve_forever(Path(sys.argv[1]), '127.0.0.1', 0, lambda hub: print(hub.url, flush=True), jobs=True)"
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "hub")], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    api = HfApi(endpoint=url, token=(tmp_path / "hub" / "token").read_text())
    job = shell(api, "echo $$; sleep 60", secrets={"HF_TOKEN": SECRET})
    pid = next(iter(api.fetch_job_logs(job_id=job.id, namespace=NAMESPACE, follow=True)))
    server.send_signal(signal.SIGKILL)
    server.wait()
    eventually(lambda: not lives(int(pid)))
    with serve(tmp_path / "hub", jobs=True) as running:
        api = HfApi(endpoint=running.url, token=running.token)
        job = inspect(api, job)
        assert (job.status.stage, job.status.message) == ("ERROR", "the Hub that ran it ended")
        assert logs(api, job) == [pid]  # what it printed is still there
        with pytest.raises(HfHubHTTPError, match="secrets"):
            api.rerun_job(job_id=job.id, namespace=NAMESPACE)


def test_two_servers_over_one_folder_see_each_others_jobs(hub: RunningHub, api: HfApi, tmp_path: Path) -> None:
    job = shell(api, "sleep 60")
    eventually(lambda: inspect(api, job).status.stage == "RUNNING")
    with serve(tmp_path / "hub", jobs=True) as second:
        other = HfApi(endpoint=second.url, token=second.token)
        assert inspect(other, job).status.stage == "RUNNING"
        with pytest.raises(HfHubHTTPError, match="another server"):
            other.cancel_job(job_id=job.id, namespace=NAMESPACE)
    time.sleep(0.1)
    assert inspect(api, job).status.stage == "RUNNING"
