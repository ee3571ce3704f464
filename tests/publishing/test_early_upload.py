"""What is proven goes up while the rest is built: its large files alone, and what publishes finds them there."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bot.hub.client import Hub, connect
from bot.localhub import RunningHub
from bot.publishing.early_upload import LARGE_BYTES, EarlyUpload
from bot.records.artifacts import Artifact, FileEntry
from bot.steps.publish import publish, publish_target
from bot.workspace import Workspace, write_json
from tests.contexts import context_of
from tests.hub.faulty import Fault, Proxy, proxy
from tests.steps import proven
from tests.steps.test_publish import Said

REPO = "me/Phi-9-mini-GGUF"


@pytest.fixture
def between(hub: RunningHub) -> Iterator[Proxy]:
    with proxy(hub.url) as running:
        yield running


@pytest.fixture
def there(between: Proxy, hub: RunningHub) -> Hub:
    return connect(between.url, hub.token)


@pytest.fixture
def artifact(hub: RunningHub, tmp_path: Path) -> Artifact:
    """A proven GGUF that is just large enough."""
    found = proven.artifact(tmp_path / "artifacts", proven.release(hub))
    content = b"weights " * (LARGE_BYTES // 8)
    [file] = found.build.files
    (Path(found.folder) / "files" / file.path).write_bytes(content)
    entry = FileEntry(path=file.path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    build = replace(found.build, files=(entry,))
    write_json(Path(found.folder) / "build.json", build.to_json())
    return replace(found, build=build)


def sent(between: Proxy) -> int:
    """How many times a large file was sent."""
    return sum(method == "PUT" for method, _, _ in between.seen)


def ahead_of(there: Hub, said: Said) -> EarlyUpload:
    return EarlyUpload(there, partial(publish_target, namespace="me", private=False), said)


def published(artifact: Artifact, there: Hub, folder: Path, said: Said) -> tuple[str, ...]:
    report = publish(
        [artifact], context_of(namespace="me", workspace=Workspace(root=folder / "work"), hub=there, display=said)
    )
    assert report.failures == ()
    return tuple(p.repo_id for p in report.publications)


def test_a_large_file_is_there_when_publishing_begins_and_is_sent_once(
    artifact: Artifact, there: Hub, between: Proxy, tmp_path: Path
) -> None:
    said = Said()
    with ahead_of(there, said) as ahead:
        ahead.offer(artifact)
    assert sent(between) == 1
    assert said.lines[0].startswith("Uploaded gguf/q4_k_m ahead: 10.0 MB in ")
    found = there.record(REPO)
    assert found is not None
    assert found[0].builds == ()  # nothing is published by it
    assert published(artifact, there, tmp_path, said) == (REPO,)
    assert sent(between) == 1


def test_a_failed_early_upload_is_left_to_publishing(
    artifact: Artifact, there: Hub, between: Proxy, tmp_path: Path
) -> None:
    between.faults.append(Fault(method="PUT", path=".*", status=403, times=1))
    said = Said()
    with ahead_of(there, said) as ahead:
        ahead.offer(artifact)
    assert said.lines[0].startswith("gguf/q4_k_m was not uploaded ahead: ")
    assert published(artifact, there, tmp_path, said) == (REPO,)


def test_of_small_files_the_hub_hears_nothing_before_they_are_published(
    hub: RunningHub, there: Hub, between: Proxy, tmp_path: Path
) -> None:
    small = proven.artifact(tmp_path / "artifacts", proven.release(hub))
    with ahead_of(there, Said()) as ahead:
        ahead.offer(small)
    assert between.seen == []


def test_a_file_that_cannot_be_read_is_said_and_holds_up_no_other(
    artifact: Artifact, there: Hub, between: Proxy, tmp_path: Path
) -> None:
    gone = replace(artifact, folder=str(shutil.copytree(artifact.folder, tmp_path / "gone")))
    shutil.rmtree(tmp_path / "gone" / "files")
    said = Said()
    with ahead_of(there, said) as ahead:
        ahead.offer(gone)
        ahead.offer(artifact)
    assert said.lines[0].startswith("gguf/q4_k_m was not uploaded ahead: [Errno 2] No such file or directory: ")
    assert said.lines[1].startswith("Uploaded gguf/q4_k_m ahead: ")
    assert sent(between) == 1


def test_a_bug_in_the_thread_comes_out_where_the_block_is_left(artifact: Artifact, there: Hub) -> None:
    def broken(_: Artifact) -> tuple[str, bool, dict[str, Path]]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"), EarlyUpload(there, broken, Said()) as ahead:
        ahead.offer(artifact)


def test_who_is_interrupted_does_not_wait_for_an_upload(artifact: Artifact, there: Hub) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def place(given: Artifact) -> tuple[str, bool, dict[str, Path]]:
        begun.set()
        go_on.wait(20)
        return publish_target(given, namespace="me", private=False)  # type: ignore[return-value]

    def interrupted() -> None:
        with EarlyUpload(there, place, Said()) as ahead:
            ahead.offer(artifact)
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not go_on.is_set()
    go_on.set()
