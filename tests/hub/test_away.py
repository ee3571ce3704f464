"""A Hub that was there and is away: killed in the middle of what it does, and started anew some seconds later."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.errors import HubUnreachableError
from bot.hub import client, retry, session
from bot.hub.client import Hub
from bot.hub.transport import PatientClient
from bot.localhub import check, serve
from bot.progress import Silent
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log
from tests.source.models import files

AWAY_SECONDS = 6.0  # longer than the three pauses for a Hub that never answered: 1, 2 and 2 seconds at most here
LARGE = bytes(range(256)) * 200_000  # 51 MB


class Process:
    """An embedded Hub as a process of its own, over a folder, always at one address."""

    def __init__(self, folder: Path) -> None:
        with serve(folder) as running:  # makes the folder and its token
            self.token = running.token
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url, self.restarts = folder, f"http://127.0.0.1:{self.port}", 0
        self._timer: threading.Timer | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "bot.cli", "hub", "serve", str(self.folder), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, the first time that this is called, and start it again some seconds later."""
        if self.restarts:
            return
        self.restarts += 1
        self._process.kill()
        self._process.wait()
        self._timer = threading.Timer(AWAY_SECONDS, self.start)
        self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.join()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(retry, "_LONGEST_PAUSE", 2.0)  # so that nobody waits much longer than it is away
    running = Process(tmp_path / "hub")
    session.forget_connections()
    yield running
    running.end()


class Killing(Log):
    """Kills the Hub as soon as some of a file has come."""

    def __init__(self, kill: Callable[[], None]) -> None:
        super().__init__()
        self._kill = kill

    def update(self, what: str, done: int, total: int, unit: str) -> None:
        super().update(what, done, total, unit)
        if 0 < done < total:
            self._kill()


def put(there: Hub, repo_id: str, content: dict[str, bytes], *, parent: str | None = None) -> str:
    with Silent().task("") as task:
        return there.commit(repo_id, files=content, parent=parent, message="Add it", task=task)


@pytest.mark.process
def test_a_download_goes_on_when_the_hub_is_there_again(process: Process, tmp_path: Path) -> None:
    there = client.connect(process.url, process.token)
    put(there, "me/Phi", files(model__safetensors=LARGE))
    release = there.release("me/Phi")
    (tmp_path / "model").mkdir()
    said: list[str] = []
    retry.say_waits(said.append)
    there.download(release, tmp_path / "model", Killing(process.kill))
    assert process.restarts == 1
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == LARGE
    assert any(line.startswith(f"{process.url} cannot be reached: waiting for it, 10 min at most") for line in said)


@pytest.mark.process
@pytest.mark.parametrize("moment", ["of the upload", "before the commit", "after the commit"])
def test_a_publication_is_made_once_whenever_the_hub_is_killed(
    process: Process, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    there = client.connect(process.url, process.token)
    first = put(there, "me/Phi", {"a.txt": b"a"})
    real = PatientClient.send

    def send(self: PatientClient, request: object, **options: object) -> object:
        path = request.url.path  # type: ignore[attr-defined]
        is_commit = request.method == "POST" and "/commit/" in path  # type: ignore[attr-defined]
        if is_commit and moment == "before the commit":
            process.kill()
        if request.method == "PUT" and moment == "of the upload":  # type: ignore[attr-defined]
            threading.Timer(0.02, process.kill).start()  # while its 51 MB are sent
        answer = real(self, request, **options)  # type: ignore[arg-type]
        if is_commit and moment == "after the commit" and not process.restarts:
            process.kill()
            raise library_lost()
        return answer

    monkeypatch.setattr(PatientClient, "send", send)
    head = put(there, "me/Phi", {"model.safetensors": LARGE, "b.txt": b"b"}, parent=first)
    assert process.restarts == 1
    monkeypatch.undo()
    commits = HfApi(endpoint=process.url, token=process.token).list_repo_commits("me/Phi")
    assert [c.commit_id for c in commits][:2] == [head, first]
    assert sum(c.title == "Add it" for c in commits) == 2
    assert check(process.folder) == []


def library_lost() -> Exception:
    """What the client hears when the answer is lost with the process."""
    import httpx2

    return httpx2.RemoteProtocolError("Server disconnected without sending a response.")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("how", ["nothing listens", "502", "503", "504"])
def test_it_is_waited_for_minutes_and_then_given_up_once(
    shaky: Hub, faulty: Proxy, waits: list[float], how: str
) -> None:
    shaky.check()
    said: list[str] = []
    retry.say_waits(said.append)
    if how == "nothing listens":
        faulty.refuse()
    else:
        faulty.faults.append(Fault(method="GET", path="", status=int(how)))
    with pytest.raises(Exception, match=faulty.url) as caught:
        shaky.check()
    assert caught.value.exit_code in (31, 32)  # type: ignore[attr-defined]
    assert retry.AWAY <= sum(waits) <= retry.AWAY + 30
    assert said
    assert said[0].startswith(f"{faulty.url} cannot be reached: waiting for it")
    waits.clear()
    with pytest.raises(Exception, match=faulty.url):
        shaky.check()
    assert sum(waits) <= 60  # nobody waits for it again and again
    faulty.faults.clear()
    faulty.listen()
    shaky.check()
    assert retry.has_answered(faulty.url)


def test_a_hub_that_never_answered_is_not_waited_for(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(HubUnreachableError, match=f"^{url} is not reachable"):
            client.connect(url, "hf_secret").check()
    assert len(waits) == retry.REFUSED_REPEATS
