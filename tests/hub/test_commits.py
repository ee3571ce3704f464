import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bot.errors import ConflictError, ForeignRepoError, HubRefusedError, HubUnreachableError, PhiBotError, RecordError
from bot.hub.client import RECORD_FILE, Hub
from bot.hub.retry import REPEATS
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.records.artifacts import RECORD_VERSION, RepoRecord
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log
from tests.source.models import write

REPO = "me/Phi-4-GGUF"
EMPTY = RepoRecord(version=RECORD_VERSION, builds=())
RECORD = json.dumps(EMPTY.to_json()).encode()
CARD = b"---\nlicense: mit\n---\n# Phi\n"
WEIGHTS = random.Random(0).randbytes(200_000)  # an LFS file, for its name
FILES: dict[str, Path | bytes] = {
    RECORD_FILE: RECORD,
    "README.md": CARD,
    "model.gguf": WEIGHTS,
    "cpu/config.json": b"{}",
}


def put(hub: Hub, files: dict[str, Path | bytes], parent: str | None = None, delete: tuple[str, ...] = ()) -> str:
    return hub.commit(REPO, files=files, delete=delete, parent=parent, message="Add it", task=Log())


def listing(hub: Hub) -> set[str]:
    return set(hub.api.list_repo_files(REPO)) - {".gitattributes"}


def history(hub: Hub) -> list[str]:
    """Return the commits of the repo, the newest first; the last one is the empty beginning."""
    return [c.commit_id for c in hub.api.list_repo_commits(REPO)]


# ---- what a commit does --------------------------------------------------------------------------------------


def test_everything_goes_up_in_one_commit(client: Hub, tmp_path: Path) -> None:
    large = WEIGHTS * 60
    (tmp_path / "large.gguf").write_bytes(large)
    files = FILES | {"large.gguf": tmp_path / "large.gguf"}
    log = Log()
    commit = client.commit(REPO, files=files, parent=None, message="Add it", task=log)
    assert history(client)[0] == commit
    assert len(history(client)) == 2
    assert listing(client) == set(files)
    client.api.snapshot_download(REPO, local_dir=tmp_path / "got")
    for name, content in FILES.items():
        assert (tmp_path / "got" / name).read_bytes() == content
    assert client.api.list_repo_commits(REPO)[0].title == "Add it"
    assert (tmp_path / "got/large.gguf").read_bytes() == large
    total = len(RECORD) + len(CARD) + len(WEIGHTS) + 2 + len(large)
    assert log.seen[-1] == ("committing", total, total, "bytes")
    assert ("uploading large.gguf", total - len(large), total, "bytes") in log.seen


def test_the_same_again_makes_no_commit_and_sends_nothing(shaky: Hub, faulty: Proxy) -> None:
    first = put(shaky, FILES)
    faulty.seen.clear()
    assert put(shaky, FILES, parent=first) == first
    assert {m for m, _, _ in faulty.seen} == {"GET"}
    assert len(history(shaky)) == 2


def test_a_change_sends_only_the_changed_files(shaky: Hub, faulty: Proxy) -> None:
    first = put(shaky, FILES)
    faulty.seen.clear()
    second = put(shaky, FILES | {"README.md": CARD + b"More.\n"}, parent=first)
    assert second != first
    assert listing(shaky) == set(FILES)
    assert faulty.count("PUT", "") == 0


def test_files_are_taken_out_in_the_same_commit(client: Hub) -> None:
    first = put(client, FILES)
    put(client, {"README.md": CARD + b"Less.\n"}, parent=first, delete=("model.gguf", "cpu/config.json", "not-there"))
    assert listing(client) == {RECORD_FILE, "README.md"}
    assert len(history(client)) == 3


def test_a_file_that_is_both_added_and_deleted_stays(client: Hub) -> None:
    first = put(client, FILES)
    put(client, {"README.md": CARD + b"More.\n"}, parent=first, delete=("README.md",))
    assert listing(client) == set(FILES)


def test_deleting_a_missing_file_changes_nothing(client: Hub) -> None:
    first = put(client, FILES)
    assert put(client, {}, parent=first, delete=("not-there",)) == first


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repo_is_private_or_not(client: Hub, private: bool) -> None:
    client.commit(REPO, files=FILES, parent=None, message="Add it", private=private, task=Log())
    assert client.api.model_info(REPO).private is private


def test_a_path_that_leaves_the_repo_is_refused_before_anything_is_made(client: Hub) -> None:
    with pytest.raises(PhiBotError):
        put(client, {"../model.gguf": b"x"})
    assert not client.api.repo_exists(REPO)


# ---- others at the same moment -------------------------------------------------------------------------------


def test_a_stale_parent_is_a_conflict_and_changes_nothing(client: Hub) -> None:
    first = put(client, FILES)
    second = put(client, {"other.txt": b"theirs"}, parent=first)
    with pytest.raises(ConflictError, match=f"someone else published in {REPO}") as caught:
        put(client, {"mine.txt": b"mine"}, parent=first)
    assert caught.value.exit_code == 34
    assert history(client)[0] == second
    assert "mine.txt" not in listing(client)


def test_a_repo_that_someone_else_made_and_filled_meanwhile_is_a_conflict(client: Hub) -> None:
    put(client, FILES)
    with pytest.raises(ConflictError):
        put(client, {"mine.txt": b"mine"})


def test_of_two_at_once_one_wins_and_the_other_is_told(client: Hub) -> None:
    first = put(client, FILES)
    gate = threading.Barrier(4)
    outcomes: list[str] = []

    def work(number: int) -> None:
        gate.wait()
        try:
            outcomes.append(put(client, {f"{number}.txt": b"mine"}, parent=first))
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert outcomes.count("conflict") == 3
    assert history(client) == [o for o in outcomes if o != "conflict"] + history(client)[1:]


# ---- answers that are lost -----------------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_recognised(shaky: Hub, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", lose=True, times=1))
    commit = put(shaky, FILES)
    assert history(shaky)[0] == commit
    assert len(history(shaky)) == 2
    assert faulty.count("POST", "/commit/") == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_commit_that_was_not_made_is_asked_for_again(shaky: Hub, faulty: Proxy, status: int) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", status=status, times=2))
    put(shaky, FILES)
    assert len(history(shaky)) == 2
    assert faulty.count("POST", "/commit/") == 3


@pytest.mark.usefixtures("at_once")
def test_a_hub_that_goes_on_failing_is_said_so_and_the_next_run_completes(shaky: Hub, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", status=503, body=b"maintenance", times=REPEATS + 1))
    with pytest.raises(HubRefusedError, match="status 503: maintenance") as caught:
        put(shaky, FILES)
    assert caught.value.exit_code == 32
    found = shaky.record(REPO)
    assert found is not None
    assert found[0] == EMPTY
    put(shaky, FILES, parent=found[1])
    assert listing(shaky) == set(FILES)


def test_someone_elses_commit_is_not_taken_for_ours(shaky: Hub, faulty: Proxy, client: Hub) -> None:
    first = put(client, FILES)
    put(client, {"other.txt": b"theirs"}, parent=first)
    faulty.faults.append(Fault(method="POST", path="/commit/", lose=True, times=1))
    with pytest.raises(ConflictError):
        put(shaky, {"mine.txt": b"mine"}, parent=first)


@pytest.mark.usefixtures("at_once")
def test_an_upload_that_always_breaks_is_said_so(shaky: Hub, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="PUT", path="/_lfs/", lose=True))
    with pytest.raises(HubUnreachableError, match="broke"):
        put(shaky, FILES)
    assert listing(shaky) == set()


PUBLISH = """
import os, sys
from pathlib import Path
from bot.hub.client import connect
from bot.progress import Silent
files = {p.relative_to(sys.argv[3]).as_posix(): p for p in Path(sys.argv[3]).rglob("*") if p.is_file()}
with Silent().task("") as task:
    connect(sys.argv[1], os.environ["TOKEN"]).commit(sys.argv[2], files=files, parent=None, message="Add it", task=task)
"""


@pytest.mark.parametrize("where", ["/api/repos/create", "/preupload/", "/_lfs/upload", "/commit/"])
def test_a_publish_that_was_killed_anywhere_does_not_trip_the_next_one(
    shaky: Hub, faulty: Proxy, hub: RunningHub, tmp_path: Path, where: str
) -> None:
    for name, content in FILES.items():
        assert isinstance(content, bytes)
        write(tmp_path / "artifact", {name: content})
    faulty.faults.append(Fault(method="PUT" if "_lfs" in where else "POST", path=where, stall=0, times=1))
    arguments = [sys.executable, "-c", PUBLISH, faulty.url, REPO, str(tmp_path / "artifact")]
    process = subprocess.Popen(arguments, env=os.environ | {"TOKEN": hub.token})
    while not any(where in path for _, path, _ in faulty.seen):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    found = shaky.record(REPO)
    put(shaky, FILES, parent=found[1] if found else None)
    assert listing(shaky) == set(FILES)


# ---- what is published already -------------------------------------------------------------------------------


def test_no_repo_has_no_record(client: Hub) -> None:
    assert client.record(REPO) is None


def test_a_repo_that_was_just_made_has_an_empty_record(client: Hub) -> None:
    client.api.create_repo(REPO)
    found = client.record(REPO)
    assert found == (EMPTY, client.api.model_info(REPO).sha)


def test_a_record_is_read_at_the_head(client: Hub) -> None:
    commit = put(client, FILES)
    assert client.record(REPO) == (EMPTY, commit)


def test_a_repo_of_someone_else_is_never_overwritten(client: Hub) -> None:
    put(client, {"pytorch_model.bin": b"theirs"})
    with pytest.raises(ForeignRepoError, match=f"{REPO} holds files that phi-bot did not put there") as caught:
        client.record(REPO)
    assert caught.value.exit_code == 33


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": 1, "builds": [{}]}', b'{"version": 99, "builds": []}'],
)
def test_a_record_that_cannot_be_read_names_its_repo(client: Hub, record: bytes) -> None:
    put(client, {RECORD_FILE: record})
    with pytest.raises(RecordError, match=f"^{RECORD_FILE} of {REPO}") as caught:
        client.record(REPO)
    assert caught.value.exit_code == 14


# ---- repos that are data sets --------------------------------------------------------------------------------


def test_a_data_set_is_kept_like_a_model_beside_one_of_the_same_name(client: Hub) -> None:
    put(client, FILES)
    with Silent().task("") as task:
        head = client.commit(
            REPO, files={"state.json": b"{}"}, parent=None, message="Remember", repo_type="dataset", task=task
        )
    assert client.read_files(REPO, ["state.json", "paused"], repo_type="dataset") == ({"state.json": b"{}"}, head)
    assert client.read_files(REPO, ["state.json"]) == ({}, history(client)[0])
    assert client.read_files("me/nothing", ["state.json"], repo_type="dataset") is None


def test_a_file_too_large_to_be_remembered_is_not_read(client: Hub) -> None:
    put(client, {"state.json": bytes(10_000_001)})
    with pytest.raises(RecordError, match=r"^state\.json of me/Phi-4-GGUF has 10000001 bytes"):
        client.read_files(REPO, ["state.json"])
