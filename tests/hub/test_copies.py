"""What was staged in one repo is published in another: the Hub copies it, in one commit, and nobody sends it again."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from bot.errors import (
    AlteredDownloadError,
    ConflictError,
    HubRefusedError,
    PhiBotError,
    RecordError,
    TokenError,
    UnknownRevisionError,
)
from bot.hub.client import Hub, HubFile, connect
from bot.hub.retry import REPEATS
from bot.localhub import RunningHub
from bot.records.artifacts import SourceFile
from bot.source import file_digest
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log

STAGING, PUBLIC = "me/staging", "me/Phi-4-GGUF"
WEIGHTS = random.Random(2).randbytes(300_000)
CONFIG = b'{"model_type": "phi3"}\n'
CARD = b"---\nlicense: mit\n---\n# Phi\n"
LARGE, SMALL = "q4/model.gguf", "q4/config.json"


@pytest.fixture
def staged(client: Hub) -> Mapping[str, HubFile]:
    """What is staged: a large file, which git holds as a pointer, and a small one, which it holds itself."""
    client.commit(STAGING, files={LARGE: WEIGHTS, SMALL: CONFIG}, parent=None, message="Stage", task=Log())
    commit, files = listing(client, STAGING)
    return {p: HubFile(repo_id=STAGING, commit=commit, file=files[p]) for p in (LARGE, SMALL)}


def listing(hub: Hub, repo_id: str, revision: str | None = None) -> tuple[str, dict[str, SourceFile]]:
    found = hub.files(repo_id, revision)
    assert found is not None
    return found


def promote(hub: Hub, staged: Mapping[str, HubFile], parent: str | None = None, card: bytes = CARD) -> str:
    files: dict[str, bytes | HubFile] = {"model.gguf": staged[LARGE], "config.json": staged[SMALL], "README.md": card}
    return hub.commit(PUBLIC, files=files, parent=parent, message="Promote", task=Log())


def titles(hub: Hub) -> list[str]:
    return [c.title for c in hub.api.list_repo_commits(PUBLIC)]


# ---- what is copied ----------------------------------------------------------------------------------------------


def test_staged_files_are_published_in_one_commit_without_an_upload(
    shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile], tmp_path: Path
) -> None:
    commit = promote(shaky, staged)
    assert titles(shaky) == ["Promote", "initial commit"]
    assert faulty.count("PUT", "") == 0
    assert faulty.count("POST", "/lfs-files/duplicate") == 1
    head, files = listing(shaky, PUBLIC)
    assert head == commit
    assert (files["model.gguf"].size, files["model.gguf"].digest) == (len(WEIGHTS), staged[LARGE].file.digest)
    shaky.api.snapshot_download(PUBLIC, local_dir=tmp_path)
    assert file_digest(tmp_path / "model.gguf", lfs=True, report=lambda _: None) == staged[LARGE].file.digest
    assert (tmp_path / "config.json").read_bytes() == CONFIG


def test_files_already_there_are_neither_read_nor_copied(
    shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile]
) -> None:
    first = promote(shaky, staged)
    faulty.seen.clear()
    assert promote(shaky, staged, first) == first
    assert not faulty.count("POST", "")
    assert not faulty.count("GET", "/resolve/")
    faulty.seen.clear()
    promote(shaky, staged, first, card=CARD + b"More.\n")
    assert not faulty.count("POST", "duplicate")
    assert not faulty.count("GET", "/resolve/")


def test_a_file_is_renamed_where_it_is(shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile]) -> None:
    commit = shaky.commit(
        STAGING,
        files={"renamed.gguf": staged[LARGE]},
        delete=(LARGE,),
        parent=staged[LARGE].commit,
        message="Rename",
        task=Log(),
    )
    head, files = listing(shaky, STAGING)
    assert head == commit
    assert set(files) == {".gitattributes", SMALL, "renamed.gguf"}
    assert faulty.count("PUT", "") == 0


def test_later_changes_of_the_staging_repo_do_not_matter(client: Hub, staged: Mapping[str, HubFile]) -> None:
    other = {LARGE: WEIGHTS[::-1], SMALL: b"{}"}
    client.commit(STAGING, files=other, parent=staged[LARGE].commit, message="Stage another", task=Log())
    promote(client, staged)
    assert listing(client, PUBLIC)[1]["model.gguf"].digest == staged[LARGE].file.digest


# ---- what is not copied ------------------------------------------------------------------------------------------


def test_a_file_other_than_the_checked_one_is_not_published(client: Hub, staged: Mapping[str, HubFile]) -> None:
    file = staged[LARGE].file
    for lie in (
        SourceFile(path=file.path, size=file.size, digest="sha256:" + "0" * 64),
        SourceFile(path="q4/another.gguf", size=file.size, digest=file.digest),
        SourceFile(path=SMALL, size=file.size, digest=file.digest),
    ):
        wrong = HubFile(repo_id=STAGING, commit=staged[LARGE].commit, file=lie)
        with pytest.raises(AlteredDownloadError, match=r"is not what commit .* listed"):
            promote(client, {**staged, LARGE: wrong})
    small = staged[SMALL].file
    wrong = HubFile(
        repo_id=STAGING,
        commit=staged[SMALL].commit,
        file=SourceFile(path=SMALL, size=small.size, digest="git:" + "0" * 40),
    )
    with pytest.raises(AlteredDownloadError):
        promote(client, {**staged, SMALL: wrong})
    assert client.files(PUBLIC) is None


def test_a_file_in_the_old_storage_is_refused_with_a_remedy(
    shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile]
) -> None:
    digest = staged[LARGE].file.digest.removeprefix("sha256:")
    lfs = {"oid": digest, "size": len(WEIGHTS), "pointerSize": 130}
    old = [{"type": "file", "path": LARGE, "size": len(WEIGHTS), "oid": "0" * 40, "lfs": lfs}]  # and no Xet hash
    answer = {"status": 200, "body": json.dumps(old).encode(), "headers": {"Content-Type": "application/json"}}
    faulty.faults.append(Fault(method="POST", path="/paths-info/", **answer))  # type: ignore[arg-type]
    with pytest.raises(HubRefusedError, match="kept in the Hub's old storage") as caught:
        promote(shaky, staged)
    assert "upload it again" in caught.value.hint
    assert shaky.files(PUBLIC) is None


def test_a_hub_that_does_not_copy_all_is_said_so(shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile]) -> None:
    body = json.dumps({"failed": [{"sha256": "00", "error": "another region"}]}).encode()
    headers = {"Content-Type": "application/json"}
    faulty.faults.append(Fault(method="POST", path="duplicate", status=200, body=body, headers=headers))
    with pytest.raises(HubRefusedError, match="another region"):
        promote(shaky, staged)
    assert titles(shaky) == ["initial commit"]
    faulty.faults.clear()
    promote(shaky, staged, listing(shaky, PUBLIC)[0])


# ---- answers that are lost ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("path", ["/lfs-files/duplicate", "/commit/", "/paths-info/", "/preupload/"])
@pytest.mark.parametrize("fault", [{"lose": True}, {"half": True}, {"status": 503}, {"status": 429}])
def test_a_copy_is_published_once_whatever_becomes_of_one_answer(
    shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile], path: str, fault: dict[str, object]
) -> None:
    faulty.faults.append(Fault(method="POST", path=path, times=1, **fault))  # type: ignore[arg-type]
    commit = promote(shaky, staged)
    head, files = listing(shaky, PUBLIC)
    assert head == commit
    assert titles(shaky) == ["Promote", "initial commit"]
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.gguf"}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("path", ["/lfs-files/duplicate", "/commit/", "/paths-info/", "/preupload/"])
def test_an_answer_that_comes_twice_ends_in_an_error_at_worst_and_the_next_run_completes(
    shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile], path: str
) -> None:
    faulty.faults.append(Fault(method="POST", path=path, times=1, twice=True))
    for _ in range(2):
        with suppress(PhiBotError):
            found = shaky.files(PUBLIC)
            promote(shaky, staged, found[0] if found else None)
    assert titles(shaky) == ["Promote", "initial commit"]
    assert listing(shaky, PUBLIC)[1]["model.gguf"].digest == staged[LARGE].file.digest


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("path", ["/lfs-files/duplicate", "/commit/"])
def test_a_promotion_that_was_given_up_leaves_the_old_commit_and_can_be_repeated(
    shaky: Hub, faulty: Proxy, client: Hub, staged: Mapping[str, HubFile], path: str
) -> None:
    old = client.commit(PUBLIC, files={"README.md": CARD}, parent=None, message="Publish", task=Log())
    faulty.faults.append(Fault(method="POST", path=path, status=503, times=2 * (REPEATS + 1) ** 2))
    with pytest.raises(HubRefusedError):
        promote(shaky, staged, old)
    assert listing(client, PUBLIC)[0] == old
    faulty.faults.clear()
    promote(shaky, staged, old)
    assert titles(client) == ["Promote", "Publish", "initial commit"]


PROMOTE = """
import json, os, sys
from bot.hub.client import HubFile, connect
from bot.progress import Silent
from bot.records.artifacts import SourceFile
endpoint, public, repo, commit, file = sys.argv[1:]
files = {"model.gguf": HubFile(repo_id=repo, commit=commit, file=SourceFile.from_json(json.loads(file)))}
with Silent().task("") as task:
    hub = connect(endpoint, os.environ["TOKEN"])
    hub.commit(public, files=files, parent=None, message="Promote", task=task)
"""


@pytest.mark.process
@pytest.mark.parametrize("path", ["/api/repos/create", "/lfs-files/duplicate", "/commit/"])
def test_a_promotion_that_was_killed_anywhere_does_not_trip_the_next_one(
    shaky: Hub, faulty: Proxy, hub: RunningHub, staged: Mapping[str, HubFile], path: str
) -> None:
    faulty.faults.append(Fault(method="POST", path=path, stall=0, times=1))
    file = staged[LARGE]
    said = (PUBLIC, file.repo_id, file.commit, json.dumps(file.file.to_json()))
    arguments = [sys.executable, "-c", PROMOTE, faulty.url, *said]
    process = subprocess.Popen(arguments, env=os.environ | {"TOKEN": hub.token})
    while not any(path in seen for _, seen, _ in faulty.seen):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    found = shaky.files(PUBLIC)
    promote(shaky, staged, found[0] if found else None)
    assert listing(shaky, PUBLIC)[1]["model.gguf"].digest == staged[LARGE].file.digest


# ---- others at the same moment -----------------------------------------------------------------------------------


def test_of_two_promotions_at_once_one_wins_whole(client: Hub, staged: Mapping[str, HubFile]) -> None:
    old = client.commit(PUBLIC, files={"README.md": CARD}, parent=None, message="Publish", task=Log())
    gate = threading.Barrier(4)
    outcomes: list[tuple[bytes, str]] = []
    seen: set[str] = set()

    def work(number: int) -> None:
        card = CARD + b"%d\n" % number
        gate.wait()
        try:
            outcomes.append((card, promote(client, staged, old, card=card)))
        except ConflictError:
            outcomes.append((card, "conflict"))
        seen.add(listing(client, PUBLIC)[0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [(card, commit) for card, commit in outcomes if commit != "conflict"]
    assert len(won) == 1
    assert len(outcomes) == 4
    head, files = listing(client, PUBLIC)
    assert head == won[0][1]
    assert seen <= {old, head}
    assert client.read(PUBLIC, head, files["README.md"]) == won[0][0]


def test_who_may_only_stage_cannot_publish(hub: RunningHub, client: Hub, staged: Mapping[str, HubFile]) -> None:
    old = client.commit(PUBLIC, files={"README.md": CARD}, parent=None, message="Publish", task=Log())
    stager = connect(hub.url, hub.hub.tokens.make("me", "write", (STAGING,)))
    stager.commit(STAGING, files={"q8/x": b"1"}, parent=staged[LARGE].commit, message="Stage", task=Log())
    for parent in (old, None):
        with pytest.raises(TokenError):
            promote(stager, staged, parent)
    with pytest.raises(TokenError):
        stager.propose(PUBLIC, files={"x": b"1"}, parent=old, title="Mine", description="", task=Log())
    with pytest.raises(TokenError):
        stager.commit("me/new", files={"x": b"1"}, parent=None, message="Make", task=Log())
    assert listing(client, PUBLIC)[0] == old
    assert list(client.api.get_repo_discussions(PUBLIC)) == []


# ---- reading -----------------------------------------------------------------------------------------------------


def test_files_are_listed_at_any_revision(client: Hub, staged: Mapping[str, HubFile]) -> None:
    first = promote(client, staged)
    second = promote(client, staged, first, card=CARD + b"More.\n")
    assert listing(client, PUBLIC)[0] == second
    assert listing(client, PUBLIC, first)[0] == first
    assert listing(client, PUBLIC, "refs/heads/main")[0] == second
    assert listing(client, PUBLIC, first)[1] != listing(client, PUBLIC, second)[1]
    for revision in ("no-branch", "refs/pr/1", "0" * 40):
        with pytest.raises(UnknownRevisionError, match=f"has no revision '{revision}'"):
            client.files(PUBLIC, revision)
    assert client.files("me/nothing") is None
    assert client.files("me/nothing", "main", repo_type="dataset") is None


def test_a_file_altered_since_its_listing_is_not_read(shaky: Hub, faulty: Proxy, staged: Mapping[str, HubFile]) -> None:
    small = staged[SMALL]
    assert shaky.read(STAGING, small.commit, small.file) == CONFIG
    faulty.faults.append(Fault(method="GET", path="/resolve/", alter=True))
    with pytest.raises(AlteredDownloadError):
        shaky.read(STAGING, small.commit, small.file)


def test_a_large_file_is_not_read_into_memory(shaky: Hub, faulty: Proxy) -> None:
    file = SourceFile(path="model.gguf", size=10_000_001, digest="sha256:" + "0" * 64)
    with pytest.raises(RecordError, match="has 10000001 bytes"):
        shaky.read(STAGING, "0" * 40, file)
    assert faulty.seen == []
