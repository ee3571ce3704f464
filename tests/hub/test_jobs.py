"""Starting jobs through the real client, on an embedded Hub that runs them."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import HubRefusedError, TokenError
from bot.hub import jobs
from bot.hub.client import Hub, connect
from bot.hub.jobs import JobOrder
from bot.localhub import Grant, RunningHub, serve
from tests.hub.faulty import Fault, Proxy

NAMESPACE = "demo"


@pytest.fixture
def hub(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """An embedded Hub that runs jobs."""
    with serve(tmp_path / "hub", jobs=True) as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again soon: these jobs take no hours."""
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.05)


def order(script: str = "sleep 60", digest: str = "d1") -> JobOrder:
    return JobOrder(
        name="phi-bot Phi-4 gguf",
        digest=digest,
        image="python:3.12",
        command=("bash", "-c", script),
        environment={"WHO": "me"},
        secrets={"HF_TOKEN": "hf_very_secret"},
        flavor="cpu-basic",
        seconds=1800,
    )


def count(client: Hub) -> int:
    return len(list(client.api.list_jobs(namespace=NAMESPACE)))


def test_a_job_is_started_followed_and_awaited(client: Hub, hub: RunningHub) -> None:
    job, is_new = jobs.start(client, NAMESPACE, order("echo $WHO ${#HF_TOKEN}; exit 4"))
    assert is_new
    assert job.url == f"{hub.url}/jobs/{NAMESPACE}/{job.id}"
    assert list(jobs.logs(client, job)) == ["me 14"]
    ended = jobs.wait(client, job)
    assert ended.is_over
    assert (ended.stage, ended.message) == ("ERROR", "Job failed with exit code: 4")


def test_a_running_job_is_not_started_again(client: Hub, hub: RunningHub) -> None:
    job, _ = jobs.start(client, NAMESPACE, order())
    restarted = connect(hub.url, hub.token)  # a bot that knows nothing of the first one
    again, is_new = jobs.start(restarted, NAMESPACE, order())
    assert (again.id, is_new) == (job.id, False)
    other, is_new = jobs.start(restarted, NAMESPACE, order(digest="d2"))
    assert other.id != job.id
    assert is_new


def test_a_finished_job_is_started_again(client: Hub) -> None:
    job, _ = jobs.start(client, NAMESPACE, order("true"))
    jobs.wait(client, job)
    again, is_new = jobs.start(client, NAMESPACE, order("true"))
    assert again.id != job.id
    assert is_new


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="POST", path="/api/jobs/", times=1, lose=True),
        Fault(method="POST", path="/api/jobs/", times=1, cut=20),
        Fault(method="POST", path="/api/jobs/", times=1, status=502),
        Fault(method="POST", path="/api/jobs/", times=2, status=503),
        Fault(method="GET", path="/api/jobs/", times=1, status=500),
    ],
    ids=["answer lost", "answer cut", "not reached", "busy", "list failed"],
)
@pytest.mark.parametrize("script", ["sleep 60", "false"], ids=["that runs on", "that ends at once"])
def test_a_hub_that_falters_starts_one_job(
    shaky: Hub, faulty: Proxy, client: Hub, fault: Fault, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real(min(seconds, 0.05)))
    fault = replace(fault)
    faulty.faults.append(fault)
    job, is_new = jobs.start(shaky, NAMESPACE, order(script))
    assert is_new
    assert fault.times == 0
    assert [j.id for j in client.api.list_jobs(namespace=NAMESPACE)] == [job.id]


def test_a_refused_job_is_not_asked_for_again(shaky: Hub, faulty: Proxy) -> None:
    with pytest.raises(HubRefusedError, match="flavor"):
        jobs.start(shaky, NAMESPACE, replace(order(), flavor="quantum"))
    assert faulty.count("POST", "/api/jobs/") == 1


def test_jobs_of_strangers_are_out_of_reach(hub: RunningHub) -> None:
    token = hub.hub.tokens.make("stranger", "write", ())
    with pytest.raises(TokenError, match=NAMESPACE):
        jobs.start(connect(hub.url, token), NAMESPACE, order())


def test_a_token_that_may_only_read_starts_nothing(client: Hub, hub: RunningHub) -> None:
    grant = Grant(name="reader", scope="read", namespaces=(NAMESPACE,))
    token = hub.hub.tokens.make(grant.name, grant.scope, grant.namespaces)
    with pytest.raises(TokenError, match="may only read"):
        jobs.start(connect(hub.url, token), NAMESPACE, order())
    assert count(client) == 0


def test_a_job_gets_the_clients_token(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert jobs.token_of(connect(hub.url, hub.token)) == hub.token
    with pytest.raises(TokenError):
        jobs.token_of(connect(hub.url))


def test_a_label_holds_only_characters_that_the_hub_accepts() -> None:
    assert jobs.label("phi-bot Phi-3.5 gguf+mlx") == "phi-bot-Phi-3-5-gguf-mlx"
    assert len(jobs.label("x" * 200)) == 100


def test_secrets_are_not_shown() -> None:
    assert "very_secret" not in repr(order())
