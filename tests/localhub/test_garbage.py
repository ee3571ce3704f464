"""LFS files that are deleted for good, and blobs that nothing uses: they go, and nothing else, whatever happens."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
from huggingface_hub.errors import EntryNotFoundError, FileDuplicationError, HfHubHTTPError, RemoteEntryNotFoundError

from bot.localhub import Grant, LocalHub, RunningHub, check, lfs_files
from bot.localhub.changes import apply, put
from bot.localhub.garbage import Collected, GarbageCollector, collect
from bot.localhub.objects import lfs_file
from bot.localhub.repo import MAIN, LocalRepo, Ref
from tests.localhub.conftest import Ask
from tests.localhub.test_kill import SHA256, WEIGHTS, die_at, in_memory
from tests.localhub.test_parallel import at_once

__all__ = ["in_memory"]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add(api: HfApi, repo: str = "org/m", revision: str | None = None, **files: bytes) -> str:
    adds = [CommitOperationAdd(name.replace("_", "."), content) for name, content in files.items()]
    return str(api.create_commit(repo, adds, commit_message="Add", revision=revision).oid)


def blobs(hub: LocalHub) -> set[str]:
    return set(hub.blobs.names())


def collected(hub: LocalHub) -> Collected:
    """Collect until nothing is left; the server's own collector may be at work in between, and leaves what is young."""
    done = Collected(blobs=0, size=0, more=True)
    deadline = time.monotonic() + 30
    while done.more and time.monotonic() < deadline:
        time.sleep(0.02)
        found = collect(hub, young=0)
        done = Collected(blobs=done.blobs + found.blobs, size=done.size + found.size, more=found.more)
    return done


# ---- LFS files ------------------------------------------------------------------------------------------------


def test_all_lfs_files_are_listed(api: HfApi) -> None:
    api.create_repo("org/m")
    add(api, a_bin=b"\0a", t_txt=b"text")
    add(api, a_bin=b"\0newer")
    api.create_branch("org/m", branch="next")
    add(api, revision="next", b_bin=b"\0b")
    pr = api.create_pull_request("org/m", "Propose")
    add(api, revision=pr.git_reference, c_bin=b"\0c")
    api.preupload_lfs_files("org/m", [CommitOperationAdd("never.bin", b"\0never committed")])
    found = {f.oid: (f.filename, f.ref, f.size) for f in api.list_lfs_files("org/m")}
    assert found == {
        sha(b"\0a"): ("a.bin", "refs/heads/main", 2),
        sha(b"\0newer"): ("a.bin", "refs/heads/main", 6),
        sha(b"\0b"): ("b.bin", "refs/heads/next", 2),
        sha(b"\0c"): ("c.bin", pr.git_reference, 2),
        sha(b"\0never committed"): (sha(b"\0never committed"), None, 16),
    }


def test_a_deleted_file_is_in_no_commit_any_more(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    first = add(api, gone_bin=b"\0gone", stays_bin=b"\0stays", t_txt=b"text")
    api.create_tag("org/m", tag="v1")
    api.create_branch("org/m", branch="next")
    pr = api.create_pull_request("org/m", "Propose")
    add(api, revision=pr.git_reference, more_bin=b"\0more")
    add(api, later_txt=b"later")
    doomed = [f for f in api.list_lfs_files("org/m") if f.filename == "gone.bin"]
    before = api.list_repo_commits("org/m")
    api.permanently_delete_lfs_files("org/m", doomed)
    for revision in ("main", "v1", "next", pr.git_reference):
        assert "gone.bin" not in api.list_repo_files("org/m", revision=revision)
        assert api.file_exists("org/m", "stays.bin", revision=revision)
    after = api.list_repo_commits("org/m")
    assert [(c.title, c.created_at) for c in after] == [(c.title, c.created_at) for c in before]
    assert after[0].commit_id != before[0].commit_id
    assert after[-1].commit_id == before[-1].commit_id, "a commit without the file is the one that it was"
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("org/m", "gone.bin", revision=first, force_download=True)
    assert {f.filename for f in api.list_lfs_files("org/m")} == {"stays.bin", "more.bin"}
    assert check(hub.hub.folder) == []
    api.change_discussion_status("org/m", pr.num, "open")
    api.merge_pull_request("org/m", pr.num)
    assert api.file_exists("org/m", "more.bin")
    assert check(hub.hub.folder) == []


def test_history_can_stay_as_it_is(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    head = add(api, gone_bin=b"\0gone", README_md=b"# Card")
    api.permanently_delete_lfs_files("org/m", list(api.list_lfs_files("org/m")), rewrite_history=False)
    assert api.model_info("org/m").sha == head
    assert "gone.bin" in api.list_repo_files("org/m")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("org/m", "gone.bin", force_download=True)
    assert list(api.list_lfs_files("org/m")) == []
    assert check(hub.hub.folder) == []
    add(api, again_bin=b"\0gone")
    assert api.file_exists("org/m", "gone.bin")
    assert check(hub.hub.folder) == []


def test_deleting_is_for_the_owner(hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi], ask: Ask) -> None:
    api.create_repo("org/m")
    add(api, a_bin=b"\0a")
    held = list(api.list_lfs_files("org/m"))
    for grant in (
        Grant(name="stranger", scope="write", namespaces=()),
        Grant(name="reader", scope="read", namespaces=("org",)),
        Grant(name="ci", scope="write", namespaces=("org/m",)),
    ):
        with pytest.raises(HfHubHTTPError, match="403"):
            client(grant).permanently_delete_lfs_files("org/m", held)
    for body in (
        b"{}",
        b'{"deletions": 3}',
        b'{"deletions": {"sha": ["x"]}}',
        b'{"deletions": {"sha": [], "rewriteHistory": 1}}',
    ):
        assert ask("POST", "/api/models/org/m/lfs-files/batch", body=body, token=hub.token).status == 400
    assert api.file_exists("org/m", "a.bin")


# ---- garbage --------------------------------------------------------------------------------------------------


def test_unused_content_is_removed_and_nothing_else(hub: RunningHub, api: HfApi) -> None:
    for repo in ("org/m", "org/twin", "org/other"):
        api.create_repo(repo)
    add(api, w_bin=b"\0shared", own_bin=b"\0own", t_txt=b"shared", o_txt=b"own")
    add(api, "org/twin", w_bin=b"\0shared", t_txt=b"shared")
    copied = CommitOperationCopy("own.bin", "copied.bin", src_repo_id="org/m", src_repo_type="model")
    api.create_commit("org/other", [copied], commit_message="Copy")
    api.move_repo("org/twin", "org/moved")
    assert collected(hub.hub).blobs == 0
    api.delete_repo("org/m")
    done = collected(hub.hub)
    assert (done.blobs, done.size, done.more) == (1, 3, False)  # o.txt
    assert {sha(b"\0shared"), sha(b"\0own"), sha(b"shared")} <= blobs(hub.hub)
    assert sha(b"own") not in blobs(hub.hub)
    api.delete_repo("org/other")
    api.permanently_delete_lfs_files("org/moved", list(api.list_lfs_files("org/moved")))
    assert collected(hub.hub).blobs == 2
    assert {sha(b"\0shared"), sha(b"\0own")}.isdisjoint(blobs(hub.hub))
    assert check(hub.hub.folder) == []


def test_a_server_removes_garbage_by_itself(hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.localhub.garbage.YOUNG", 0.1)
    monkeypatch.setattr("bot.localhub.garbage.collect", partial(collect, young=0.1))
    api.create_repo("org/m")
    add(api, w_bin=b"\0w", t_txt=b"text")
    api.delete_repo("org/m")
    deadline = time.monotonic() + 30
    while blobs(hub.hub) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert blobs(hub.hub) == set()


def test_content_being_written_stays(tmp_path: Path, unsynced: None) -> None:
    with LocalHub(tmp_path / "hub") as hub, LocalHub(tmp_path / "hub") as other:
        hub.blobs.add(b"old garbage")
        time.sleep(0.05)
        with other.scratch.writing():
            other.blobs.add(b"not yet in a tree")
            other.blobs.add(b"old garbage")  # it is there, and about to be used
            done = collect(hub, young=0)
            assert (done.blobs, done.more) == (0, True)
        time.sleep(0.05)
        assert collect(hub, young=0).blobs == 2


@pytest.mark.process
def test_a_dead_writer_keeps_nothing(tmp_path: Path, unsynced: None) -> None:
    folder = tmp_path / "hub"
    code = (
        "import os, sys; from pathlib import Path; from bot.localhub import LocalHub\n"
        "hub = LocalHub(Path(sys.argv[1])); hub.scratch.writing().__enter__(); hub.blobs.add(b'x'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == 9
    time.sleep(0.05)
    with LocalHub(folder) as hub:
        assert collect(hub, young=0).blobs == 1


def test_a_young_blob_stays_whoever_wrote_it(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub") as hub:
        old, new = hub.blobs.add(b"old"), hub.blobs.add(b"new")
        os.utime(hub.blobs.path(old), (time.time() - 60,) * 2)
        done = collect(hub)
        assert (done.blobs, done.more, blobs(hub)) == (1, True, {new})


def test_a_repo_that_moves_while_it_is_read_loses_nothing(tmp_path: Path, unsynced: None) -> None:
    """Moved out of its place after the list was made, and another one into it: both are read, or nothing is removed."""
    import bot.localhub.garbage as module

    with LocalHub(tmp_path / "hub") as hub:
        a, b = (hub.create_repo("model", "org", n, private=False, author="me") for n in "ab")
        for repo, content in ((a, b"\0a"), (b, b"\0b")):
            hub.blobs.receive(iter([content]), sha256=sha(content), size=2)
            repo.own(sha(content))
        real, moves = module._used_by, [("a", "z"), ("b", "a"), ("z", "b")]

        def read(repo: LocalRepo) -> Iterator[str]:
            yield from real(repo)
            if moves:
                start, end = moves.pop(0)
                found = hub.repo("model", "org", start)
                assert found is not None
                hub.move_repo(found, "org", end)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_used_by", read)
            time.sleep(0.05)
            collect(hub, young=0)
        assert moves == []
        assert {sha(b"\0a"), sha(b"\0b")} <= blobs(hub)
        assert check(tmp_path / "hub") == []


def test_the_collector_reports_failures_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LocalHub(tmp_path / "hub") as hub:
        repo = hub.create_repo("model", "org", "m", private=False, author="me")
        damaged = repo.folder / "trees" / "damaged.json"
        damaged.write_text("[")  # what it names is not known
        garbage, start = hub.blobs.add(b"x"), blobs(hub)
        os.utime(hub.blobs.path(garbage), (0, 0))
        collector = GarbageCollector(hub)
        collector.wake()
        deadline = time.monotonic() + 30
        while "garbage was not removed" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        assert blobs(hub) == start
        damaged.unlink()
        collector.wake()
        while garbage in blobs(hub) and time.monotonic() < deadline:
            time.sleep(0.02)
        collector.close()
        assert blobs(hub) == start - {garbage}


# ---- many at once ---------------------------------------------------------------------------------------------

COLLECTING = """
import sys, time
from pathlib import Path
from bot.localhub import LocalHub
from bot.localhub.garbage import collect
with LocalHub(Path(sys.argv[1])) as hub:
    print("ready", flush=True)
    removed = 0
    while True:
        removed += collect(hub, young=0).blobs
        print(removed, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What a writer was told is there."""

    repo: str
    commit: str
    content: bytes


def test_garbage_is_removed_under_writers(hub: RunningHub, api: HfApi) -> None:
    """The same few contents come and go in many repos, are copied and deleted, while another process collects."""
    api.create_repo("org/stays")
    landed: list[Landed] = []
    contents = [b"\0" + bytes([ord("a") + n]) * 3000 for n in range(3)]

    def write(writer: int) -> None:
        for n in range(8):
            content, repo = contents[(writer + n) % 3], f"org/{writer}-{n}"
            api.create_repo(repo)
            add(api, repo, w_bin=content, t_txt=content[1:], n_txt=str(n).encode())
            with suppress(HfHubHTTPError, EntryNotFoundError, FileDuplicationError):  # its source may be gone
                copy = CommitOperationCopy(
                    "w.bin", f"{writer}.bin", src_repo_id=f"org/{(writer + 1) % 4}-{n}", src_repo_type="model"
                )
                api.create_commit(repo, [copy], commit_message="Copy")
            if n % 2:
                api.move_repo(repo, f"org/moved-{writer}-{n}")
            if n % 3 == 0:
                api.permanently_delete_lfs_files(repo, list(api.list_lfs_files(repo)))
            if n % 3 == 1:
                api.delete_repo(api.model_info(repo).id)
            else:
                landed.append(Landed(repo=repo, commit=str(api.model_info(repo).sha), content=content))

    with subprocess.Popen(
        [sys.executable, "-c", COLLECTING, hub.hub.folder], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            at_once([partial(write, w) for w in range(4)])
            time.sleep(0.3)
        finally:
            process.kill()
        removed = [int(line) for line in process.stdout.read().split()]
    assert removed
    assert removed[-1] > 0, "nothing was ever removed: this test showed nothing"
    assert check(hub.hub.folder) == []
    assert len(landed) == 4 * 5
    for one in landed:
        assert api.file_exists(one.repo, "t.txt")
        text = Path(api.hf_hub_download(one.repo, "t.txt", force_download=True)).read_bytes()
        assert text == one.content[1:]
    collected(hub.hub)
    before = blobs(hub.hub)
    assert check(hub.hub.folder) == []
    for repo in [m.id for m in api.list_models()]:
        api.delete_repo(repo)
    collected(hub.hub)
    assert before
    assert blobs(hub.hub) == set()


# ---- killed ---------------------------------------------------------------------------------------------------


def filled(folder: Path) -> None:
    with LocalHub(folder) as hub:
        for name in ("m", "twin"):
            repo = hub.create_repo("model", "org", name, private=False, author="me")
            for content in (WEIGHTS, b"\0own of " + name.encode()):
                hub.blobs.receive(iter([content]), sha256=sha(content), size=len(content))
                repo.own(sha(content))
                file = lfs_file(f"{len(content)}.bin", sha256=sha(content), size=len(content))
                with repo.changing():
                    repo.land(MAIN, partial(apply, [put(file)]), parent=None, author="me", title="Add", description="")
        repo.create_ref(Ref(kind="tags", name="v1"), repo.resolve("main").id)


def life(folder: Path) -> Iterator[str]:
    """Delete for good, in either way, and collect."""
    with LocalHub(folder) as hub:
        repos = [hub.repo("model", "org", n) for n in ("m", "twin")]
        m, twin = (r for r in repos if r is not None)
        yield "begun"
        lfs_files.delete(m, {SHA256, sha(b"\0own of m")}, rewrite=True)
        yield "rewritten"
        collect(hub, young=0)
        yield "collected"
        lfs_files.delete(twin, {sha(b"\0own of twin")}, rewrite=False)
        yield "deleted"
        collect(hub, young=0)
        yield "over"


@pytest.mark.process
def test_killed_while_deleting_and_collecting(in_memory: Path, unsynced: None) -> None:
    filled(in_memory / "start")
    step = 0
    while True:
        folder, said = in_memory / f"{step}", in_memory / f"{step}.log"
        shutil.copytree(in_memory / "start", folder)
        child = os.fork()
        if child == 0:
            try:
                die_at(step, folder, said, life)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        done = said.read_text().split()
        assert check(folder) == [], f"killed at step {step}"
        with LocalHub(folder) as hub:
            twin = hub.repo("model", "org", "twin")
            assert twin is not None
            assert twin.owns(SHA256), "another repo's file went too"
            assert hub.blobs.size(SHA256) == len(WEIGHTS)
            list(life(folder))
            assert collect(hub, young=0).more is False
            assert hub.blobs.size(sha(b"\0own of m")) is None
            assert hub.blobs.size(sha(b"\0own of twin")) is None
        assert check(folder) == [], f"gone on after step {step}"
        if not os.WIFSIGNALED(status):
            assert done[-1] == "over"
            break
        step += 1
        shutil.rmtree(folder)
    assert step > 10
