"""A kill at any moment leaves a folder in which everything that was acknowledged is there, and nothing is half."""

import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest

from bot.localhub import LocalHub, check, discussions
from bot.localhub.changes import apply, drop, put
from bot.localhub.objects import lfs_file, regular_file
from bot.localhub.repo import MAIN, LocalRepo, Ref

pytestmark = pytest.mark.process

PARTS = [os.urandom(1000), os.urandom(1000), os.urandom(500)]
WEIGHTS = b"".join(PARTS)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def life(folder: Path) -> Iterator[str]:
    """Do everything that writes, and say after each step what must be true from now on."""
    hub = LocalHub(folder)
    repo = hub.create_repo("model", "org", "m", private=False, author="me")
    yield "created"
    upload = hub.blobs.begin_parts(len(WEIGHTS))
    for i, part in enumerate(PARTS):
        hub.blobs.receive_part(upload, [part], offset=i * 1000, size=len(part))
    hub.blobs.finish_parts(upload, sha256=SHA256, size=len(WEIGHTS))
    repo.own(SHA256)
    yield "uploaded"
    commit(repo, "w.bin", weights=True)
    yield "committed"
    repo.create_ref(Ref(kind="tags", name="v1"), repo.resolve("main").id)
    yield "tagged"
    with repo.changing():
        files = apply([put(regular_file("t.txt", stored(repo, b"2")))], repo.tree(repo.resolve("main")))
        parent = repo.resolve("main").id
        head = repo.record(files, parents=(parent,), author="me", title="Propose", description="")
        commits = discussions.Proposed(base=parent, head=head.id)
        discussions.begin(repo, title="Propose", author="me", text="", status="open", commits=commits)
    yield "proposed"
    discussions.merge(repo, 1, author="me", comment="")
    yield "merged"
    repo.change_settings(lambda s: replace(s, private=True))
    yield "private"
    repo.delete_ref(Ref(kind="tags", name="v1"))
    yield "untagged"
    repo = hub.move_repo(repo, "other", "m2")
    yield "moved"
    hub.delete_repo(repo)
    yield "deleted"


def commit(repo: LocalRepo, path: str, *, weights: bool = False) -> None:
    file = lfs_file(path, sha256=SHA256, size=len(WEIGHTS)) if weights else regular_file(path, stored(repo, b"1"))
    with repo.changing():
        repo.land(
            MAIN, lambda tree: apply([put(file)], tree), parent=None, author="me", title=f"Add {path}", description=""
        )


def stored(repo: LocalRepo, content: bytes) -> bytes:
    repo.blobs.add(content)
    return content


def die_at(step: int, folder: Path, said: Path, life: Callable[[Path], Iterator[str]] = life) -> None:
    """In a child: live, and be killed just before the given call that changes a folder."""
    left = step
    log = said.open("w", buffering=1)

    def mortal(call: Callable[..., object], changes: Callable[[Path], bool]) -> Callable[..., object]:
        def wrapped(path: str | Path, *args: object, **kwargs: object) -> object:
            nonlocal left
            left -= "dir_fd" in kwargs or changes(Path(path))
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(path, *args, **kwargs)

        return wrapped

    for name in ("replace", "rename", "unlink", "rmdir"):
        setattr(os, name, mortal(getattr(os, name), Path.exists))
    setattr(os, "mkdir", mortal(os.mkdir, lambda path: not path.exists()))  # noqa: B010 - the types differ
    for done in life(folder):
        log.write(done + "\n")
    os._exit(0)


def holds(folder: Path, said: list[str]) -> None:
    """Assert what the steps that were acknowledged promise."""
    last = said[-1] if said else None
    with LocalHub(folder) as hub:
        repo = hub.find("model", "org", "m")  # by its former name too
        if last == "deleted":
            assert repo is None
        if last is None or repo is None:
            assert last in (None, "deleted", "moved")  # the deletion may have been done but not yet said
            return
        head = repo.resolve("main")
        if "uploaded" in said:
            assert repo.owns(SHA256)
        if "committed" in said:
            assert repo.file(head, "w.bin").sha256 == SHA256
        if "tagged" in said and last not in ("private", "untagged", "moved"):
            assert repo.resolve("v1").title == "Add w.bin"
        if "proposed" in said:
            assert discussions.find(repo, 1).status in ("open", "merged")
        if "merged" in said:
            assert discussions.find(repo, 1).merge_commit == head.id
        if "private" in said:
            assert repo.settings().private
        if "moved" in said:
            assert repo.id == "other/m2"


def goes_on(folder: Path) -> None:
    """Assert that the same work can be done to its end."""
    with LocalHub(folder) as hub:
        repo = hub.find("model", "org", "m")
        if repo is None:
            repo = hub.create_repo("model", "org", "m", private=False, author="me")
        hub.blobs.receive(iter([WEIGHTS]), sha256=SHA256, size=len(WEIGHTS))
        repo.own(SHA256)
        commit(repo, "w.bin", weights=True)
        commit(repo, "after.txt")
        with repo.changing():
            repo.land(
                MAIN, lambda t: apply([drop("after.txt")], t), parent=None, author="me", title="Undo", description=""
            )
        for found in discussions.list_all(repo):
            if found.status == "open":
                discussions.merge(repo, found.number, author="me", comment="")


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has that: hundreds of small writes take long on a busy disk."""
    memory = Path("/dev/shm")  # noqa: S108 - only its presence is asked for
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_killed_before_each_change_of_a_folder(in_memory: Path, unsynced: None) -> None:
    step = 0
    while True:
        folder, said = in_memory / f"{step}", in_memory / f"{step}.log"
        child = os.fork()
        if child == 0:
            try:
                die_at(step, folder, said)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        done = said.read_text().split()
        assert os.WIFSIGNALED(status) or (os.WEXITSTATUS(status) == 0 and done[-1] == "deleted")
        if folder.exists():
            assert check(folder) == [], f"killed at step {step}"
            holds(folder, done)
            goes_on(folder)
            assert check(folder) == [], f"gone on after step {step}"
        if not os.WIFSIGNALED(status):
            break
        step += 1
        shutil.rmtree(folder, ignore_errors=True)
    assert step > 40


SERVER = """
import resource, sys, time
from pathlib import Path
from bot.localhub import ServerLimits, serve
if sys.argv[3]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
with serve(Path(sys.argv[1]), limits=ServerLimits(part=int(sys.argv[2]))) as hub:
    print(hub.url, flush=True)
    time.sleep(600)
"""


@contextmanager
def served(
    folder: Path, *, part: int = 50_000, largest: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address. It cannot write files above ``largest`` bytes."""
    command = [sys.executable, "-c", SERVER, str(folder), str(part), str(largest or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output: IO[str] | None = process.stdout
        assert output is not None
        try:
            yield process, output.readline().strip()
        finally:
            process.kill()


class Writer(threading.Thread):
    """Uploads and commits until the server is gone; remembers what was acknowledged."""

    def __init__(self, url: str, token: str, name: str) -> None:
        super().__init__()
        self.url, self.token, self.tag = url, token, name
        self.landed: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        """Write until it fails."""
        try:
            for i in range(1000):
                self.one(f"{self.tag}-{i}")
        except (OSError, http.client.HTTPException, ValueError):
            return

    def one(self, name: str) -> None:
        """Upload a file in parts and commit it with a small one."""
        content = os.urandom(random.choice([10_000, 120_000]))
        sha256 = hashlib.sha256(content).hexdigest()
        wanted = {"operation": "upload", "transfers": ["multipart"], "objects": [{"oid": sha256, "size": len(content)}]}
        actions = json.loads(self.ask("POST", "/org/m.git/info/lfs/objects/batch", json.dumps(wanted).encode()))
        upload = actions["objects"][0]["actions"]["upload"]
        if parts := sorted((k, v) for k, v in upload["header"].items() if k.isdigit()):
            for i, (_, url) in enumerate(parts):
                self.ask("PUT", url, content[i * 50_000 : (i + 1) * 50_000])
            self.ask("POST", upload["href"], b"{}")
        else:
            self.ask("PUT", upload["href"], content)
        lines = [
            {"key": "header", "value": {"summary": name}},
            {"key": "lfsFile", "value": {"path": f"{name}.bin", "algo": "sha256", "oid": sha256, "size": len(content)}},
            {"key": "file", "value": {"path": f"{name}.txt", "content": "eA==", "encoding": "base64"}},
        ]
        body = "\n".join(json.dumps(line) for line in lines).encode()
        landed = json.loads(self.ask("POST", "/api/models/org/m/commit/main", body))
        self.landed[name] = (landed["commitOid"], sha256)

    def ask(self, method: str, url: str, body: bytes) -> bytes:
        """Make a request, which must succeed."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        headers = {"Authorization": f"Bearer {self.token}"}
        connection.request(method, f"{parts.path}?{parts.query}", body=body, headers=headers)
        answer = connection.getresponse()
        found = answer.read()
        assert answer.status == 200, found
        return found


@pytest.mark.parametrize("seed", range(2))
def test_a_server_killed_at_work(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "hub"
    with LocalHub(folder) as hub:
        hub.create_repo("model", "org", "m", private=False, author="me")
        token = hub.token_file.read_text()
    landed: dict[str, tuple[str, str]] = {}
    for life_number in range(2):
        with served(folder) as (process, url):
            writers = [Writer(url, token, f"{life_number}-{w}") for w in range(3)]
            for writer in writers:
                writer.start()
            while not any(w.landed for w in writers):
                time.sleep(0.01)
            time.sleep(random.Random(seed * 10 + life_number).uniform(0, 0.5))
            process.kill()
            for writer in writers:
                writer.join()
                landed |= writer.landed
    assert check(folder) == []
    with LocalHub(folder) as hub:
        repo = hub.repo("model", "org", "m")
        assert repo is not None
        head = repo.resolve("main")
        history = [c.id for c in repo.history(head)]
        assert len(set(history)) == len(history)
        for name, (commit_id, sha256) in landed.items():
            assert commit_id in history
            assert repo.file(head, f"{name}.bin").sha256 == sha256
            assert hub.blobs.path(sha256).stat().st_size == repo.file(head, f"{name}.bin").size
