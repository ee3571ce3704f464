"""Scheduled jobs of the embedded Hub, with the real client."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub._jobs_api import ScheduledJobInfo
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import Grant, RunningHub, serve
from bot.localhub.refused import RefusedError
from bot.localhub.schedules import next_run
from tests.localhub.jobs_of import NAMESPACE, eventually, finish, logs

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC).timestamp()  # a Wednesday


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


def scheduled(api: HfApi, script: str = "echo hello", **more: object) -> ScheduledJobInfo:
    given = {"schedule": "@daily", "namespace": NAMESPACE} | more
    return api.create_scheduled_job(image="python:3.12", command=["bash", "-c", script], **given)  # type: ignore[arg-type]


def again(api: HfApi, job: ScheduledJobInfo) -> ScheduledJobInfo:
    return api.inspect_scheduled_job(scheduled_job_id=job.id, namespace=NAMESPACE)


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("@hourly", "2026-03-04T13:00"),
        ("@daily", "2026-03-05T00:00"),
        ("@weekly", "2026-03-08T00:00"),
        ("@monthly", "2026-04-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("@annually", "2027-01-01T00:00"),
        ("*/15 * * * *", "2026-03-04T12:15"),
        ("0 9 * * 1", "2026-03-09T09:00"),
    ],
)
def test_when_a_schedule_is_due(schedule: str, due: str) -> None:
    found = next_run(schedule, NOON)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize("schedule", ["", "@sometimes", "61 * * * *", "* * *", "rm -rf /"])
def test_a_malformed_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(RefusedError, match="is not a schedule"):
        next_run(schedule, NOON)


def test_a_scheduled_job_starts_when_it_is_due(api: HfApi, hub: RunningHub) -> None:
    made = scheduled(api, labels={"of": "phi-bot"})
    due = made.status.next_job_run_at
    assert due is not None
    hub.automation.schedules.tick(due.timestamp() - 1)
    assert list(api.list_jobs(namespace=NAMESPACE)) == []
    hub.automation.schedules.tick(due.timestamp() + 1)
    (job,) = api.list_jobs(namespace=NAMESPACE)
    assert logs(api, job) == ["hello"]
    assert job.initiator is not None
    assert (job.initiator.type, job.initiator.id) == ("scheduled-job", made.id)
    later = again(api, made)
    assert later.status.last_job is not None
    assert later.status.last_job.id == job.id
    assert later.status.next_job_run_at is not None
    assert (later.status.next_job_run_at - due).days == 1
    hub.automation.schedules.tick(due.timestamp() + 2)  # once
    assert len(list(api.list_jobs(namespace=NAMESPACE))) == 1


def test_the_clock_runs_by_itself(api: HfApi, hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scheduled(api)
    due = made.status.next_job_run_at
    assert due is not None
    monkeypatch.setattr("bot.localhub.schedules.time.time", lambda: due.timestamp() + 1)
    eventually(lambda: bool(list(api.list_jobs(namespace=NAMESPACE))))


def test_jobs_due_while_no_server_ran_are_left_out(api: HfApi, hub: RunningHub) -> None:
    made = scheduled(api)
    due = made.status.next_job_run_at
    assert due is not None
    hub.automation.schedules.tick(due.timestamp() + 3600)
    assert list(api.list_jobs(namespace=NAMESPACE)) == []


def test_it_can_be_started_at_once_with_its_secrets(api: HfApi) -> None:
    made = scheduled(api, "echo ${#HF_TOKEN}", secrets={"HF_TOKEN": "12345"})
    assert list(made.job_spec.secrets or ()) == ["HF_TOKEN"]
    job = api.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE)
    assert logs(api, job) == ["5"]


def test_one_that_runs_is_not_started_again(api: HfApi) -> None:
    made = scheduled(api, "sleep 60")
    job = api.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE)
    with pytest.raises(HfHubHTTPError) as raised:
        api.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE)
    assert raised.value.response.status_code == 409
    api.cancel_job(job_id=job.id, namespace=NAMESPACE)
    finish(api, job)
    api.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE)


def test_it_is_listed_changed_suspended_and_deleted(api: HfApi, hub: RunningHub) -> None:
    made, other = scheduled(api, labels={"of": "phi-bot"}), scheduled(api)
    assert [s.id for s in api.list_scheduled_jobs(namespace=NAMESPACE)] == [made.id, other.id]
    assert [s.id for s in api.list_scheduled_jobs(namespace=NAMESPACE, labels={"of": "phi-bot"})] == [made.id]
    where = {"scheduled_job_id": made.id, "namespace": NAMESPACE}
    assert api.update_scheduled_job_schedule(schedule="@hourly", **where).schedule == "@hourly"
    labels = api.update_scheduled_job_labels(labels={"of": "someone"}, **where).job_spec.labels
    assert labels == {"of": "someone"}
    api.suspend_scheduled_job(**where)
    assert again(api, made).suspend
    assert again(api, made).status.next_job_run_at is None
    hub.automation.schedules.tick(datetime.now(UTC).timestamp() + 3601)
    assert list(api.list_jobs(namespace=NAMESPACE)) == []
    api.resume_scheduled_job(**where)
    assert again(api, made).status.next_job_run_at is not None
    api.delete_scheduled_job(**where)
    with pytest.raises(HfHubHTTPError):
        again(api, made)


@pytest.mark.server
def test_a_restart_forgets_secrets_and_says_so(tmp_path: Path, unsynced: None) -> None:
    with serve(tmp_path / "hub", jobs=True) as running:
        api = HfApi(endpoint=running.url, token=running.token)
        made = scheduled(api, secrets={"HF_TOKEN": "very-secret"})
        assert all(b"very-secret" not in p.read_bytes() for p in running.hub.folder.rglob("*") if p.is_file())
    with serve(tmp_path / "hub", jobs=True) as running:
        api = HfApi(endpoint=running.url, token=running.token)
        assert list(again(api, made).job_spec.secrets or ()) == ["HF_TOKEN"]
        with pytest.raises(HfHubHTTPError, match="secrets"):
            api.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE)


def test_a_stranger_sees_none(api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    made = scheduled(api)
    stranger = client(Grant(name="stranger", scope="write", namespaces=()))
    for attempt in (
        lambda: stranger.list_scheduled_jobs(namespace=NAMESPACE),
        lambda: again(stranger, made),
        lambda: stranger.trigger_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE),
        lambda: stranger.delete_scheduled_job(scheduled_job_id=made.id, namespace=NAMESPACE),
        lambda: scheduled(stranger),
    ):
        with pytest.raises(HfHubHTTPError) as raised:
            attempt()
        assert raised.value.response.status_code == 403


def test_the_clock_goes_on_after_a_job_that_cannot_be_started(
    api: HfApi, hub: RunningHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = scheduled(api)
    due = made.status.next_job_run_at
    assert due is not None
    broken = hub.hub.folder / "schedules" / NAMESPACE / "broken.json"
    broken.write_text("{")
    monkeypatch.setattr("bot.localhub.schedules.time.time", lambda: due.timestamp() + 1)
    eventually(lambda: "not started" in caplog.text)
    broken.unlink()
    eventually(lambda: bool(list(api.list_jobs(namespace=NAMESPACE))))
