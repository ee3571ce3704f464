"""The memory on the Hub: read, changed by several bots at once, paused."""

import threading

import pytest
from huggingface_hub import HfApi

from bot.errors import RecordError
from bot.hub import client
from bot.localhub import RunningHub
from bot.state.memory import Memory, SeenSource
from bot.state.store import MEMORY_FILE, Store

REPO = "me/phi-bot-state"


def store(hub: RunningHub) -> Store:
    found = Store(hub=client.connect(hub.url, hub.token), repo_id=REPO)
    found.read()
    return found


def seen(memory: Memory, name: str) -> Memory:
    return memory.with_sources({**memory.sources, name: SeenSource(commit="0" * 40, content_digest="1" * 64)})


def test_where_nothing_was_kept_nothing_is_known(hub: RunningHub) -> None:
    assert (store(hub).memory, store(hub).paused) == (Memory(), None)


def test_one_machine_knows_the_state_kept_by_another(hub: RunningHub) -> None:
    store(hub).update(lambda m: seen(m, "a/1"), "Remember")
    assert set(store(hub).memory.sources) == {"a/1"}
    info = HfApi(endpoint=hub.url, token=hub.token).dataset_info(REPO)
    assert info.private


def test_nothing_is_committed_where_nothing_changes(hub: RunningHub) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    mine = store(hub)
    mine.update(lambda m: m, "Nothing")
    assert not api.repo_exists(REPO, repo_type="dataset")
    mine.update(lambda m: seen(m, "a/1"), "Remember")
    before = len(api.list_repo_commits(REPO, repo_type="dataset"))
    mine.update(lambda m: seen(m, "a/1"), "Remember")
    assert len(api.list_repo_commits(REPO, repo_type="dataset")) == before


def test_bots_that_write_at_once_lose_nothing(hub: RunningHub) -> None:
    names = [f"a/{n}" for n in range(4)]
    stores = [store(hub) for _ in names]  # all have read the same before any writes
    threads = [
        threading.Thread(target=lambda s=s, n=n: s.update(lambda m: seen(m, n), "Remember"))
        for s, n in zip(stores, names, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(store(hub).memory.sources) == set(names)


def test_a_pause_holds_for_every_machine_until_it_is_taken_back(hub: RunningHub) -> None:
    mine, other = store(hub), store(hub)
    mine.pause("a disk is being replaced")
    other.read()
    assert other.paused == "a disk is being replaced"
    other.update(lambda m: seen(m, "a/1"), "Remember")
    assert store(hub).paused == "a disk is being replaced"
    other.resume()
    assert store(hub).paused is None
    assert set(store(hub).memory.sources) == {"a/1"}
    other.resume()


@pytest.mark.parametrize("content", [b"{", b'{"version": 99}', b'{"version": 1, "colour": "red"}'])
def test_a_memory_that_cannot_be_read_is_named(hub: RunningHub, content: bytes) -> None:
    store(hub).pause("make the repo")
    HfApi(endpoint=hub.url, token=hub.token).upload_file(
        repo_id=REPO, repo_type="dataset", path_in_repo=MEMORY_FILE, path_or_fileobj=content
    )
    with pytest.raises(RecordError, match=f"memory.json of {REPO}"):
        store(hub)
