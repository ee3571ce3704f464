"""Long lists: what they hold is what is there now, whoever changed it, and their pages fit together."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import Grant, LocalHub, RunningHub, ServerLimits, metadata, serve
from bot.localhub import index as index_module
from bot.localhub.changes import apply, put
from bot.localhub.index import Index
from bot.localhub.metadata import RepoView
from bot.localhub.objects import regular_file
from bot.localhub.repo import MAIN, LocalRepo
from tests.localhub.test_kill import served

Changed = Callable[[LocalHub, LocalRepo], object]


def commit(repo: LocalRepo, text: str) -> None:
    content = text.encode()
    repo.blobs.add(content)
    change = put(regular_file("config.json", content))
    with repo.changing():
        repo.land(MAIN, lambda tree: apply([change], tree), parent=None, author="me", title="Edit", description="")


def listed(index: Index, namespace: str | None = None) -> list[str]:
    return [s.repo.name for s in index.all("model", namespace=namespace)]


def known(hub: LocalHub) -> dict[str, RepoView]:
    return {s.repo.name: s for s in hub.index.all("model")}


@pytest.fixture
def folder(tmp_path: Path, unsynced: None) -> Path:
    """The folder of a Hub with three repos that nobody has touched for a minute."""
    with LocalHub(tmp_path / "hub") as hub:
        for name in ("a", "b", "c"):
            hub.create_repo("model", "org", name, private=False, author="me")
        then = time.time() - 60
        for path in (*hub.folder.rglob("repo.json"), *hub.folder.rglob("refs/heads/main")):
            os.utime(path, (then, then))
    return tmp_path / "hub"


def test_a_repo_is_read_again_only_when_it_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    look = metadata.view

    def counted(repo: LocalRepo, revision: str) -> RepoView:
        read.append(repo.name)
        return look(repo, revision)

    monkeypatch.setattr(index_module, "view", counted)
    with LocalHub(folder) as hub:
        assert sorted(listed(hub.index)) == sorted(read) == ["a", "b", "c"]
        read.clear()
        assert sorted(listed(hub.index)) == ["a", "b", "c"]
        assert read == []
        commit(hub._repo("model", "org", "b"), "{}")
        listed(hub.index)
        assert read == ["b"]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda hub, repo: hub.delete_repo(repo), lambda seen: "b" not in seen),
        (lambda hub, repo: repo.change_settings(lambda s: replace(s, private=True)), lambda s: s["b"].settings.private),
        (lambda hub, repo: repo.change_settings(lambda s: replace(s, gated="auto")), lambda s: s["b"].settings.gated),
        (
            lambda hub, repo: commit(repo, '{"model_type": "phi3"}'),
            lambda seen: seen["b"].known.config == {"model_type": "phi3"},
        ),
        (
            lambda hub, repo: hub.create_repo("model", "new", "d", private=False, author="me"),
            lambda seen: seen["d"].repo.id == "new/d",
        ),
    ],
    ids=["deleted", "private", "gated", "committed", "made"],
)
def test_changes_by_another_process_are_seen(
    folder: Path, change: Changed, shown: Callable[[dict[str, RepoView]], bool]
) -> None:
    with LocalHub(folder) as reader, LocalHub(folder) as writer:
        assert not known(reader)["b"].settings.private
        repo = writer.repo("model", "org", "b")
        assert repo is not None
        change(writer, repo)
        assert shown(known(reader))
        assert {"a", "c"} <= known(reader).keys()


def test_a_real_second_process(hub: RunningHub, api: HfApi) -> None:
    with served(hub.hub.folder) as (_, url):
        other = HfApi(endpoint=url, token=hub.token)
        for step in range(5):
            api.create_repo(f"org/m{step}")
            assert {m.id for m in other.list_models()} == {f"org/m{i}" for i in range(step + 1)}
            made = other.upload_file(path_or_fileobj=b"x", path_in_repo=f"{step}.txt", repo_id="org/m0").oid
            assert {m.id: m.sha for m in api.list_models(expand=["sha"])}["org/m0"] == made
        other.delete_repo("org/m0")
        assert "org/m0" not in {m.id for m in api.list_models()}


def test_a_repo_made_anew_under_the_same_name_is_another(folder: Path) -> None:
    with LocalHub(folder) as hub:
        old = known(hub)["b"].settings.created
        hub.delete_repo(hub._repo("model", "org", "b"))
        hub.create_repo("model", "org", "b", private=True, author="me")
        assert known(hub)["b"].settings.private
        assert known(hub)["b"].settings.created > old - 1


def test_changes_within_one_tick_of_the_clock_are_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # File systems give a freed inode out again, and their clocks stand still for milliseconds: here, for a minute.
    now = time.time_ns() + 60 * 10**9
    monkeypatch.setattr(index_module, "_stamp", lambda folder: (now, 1, now, 2))
    with LocalHub(folder) as hub:
        repo = hub._repo("model", "org", "a")
        for step in range(3):
            commit(repo, f'{{"model_type": "phi{step}"}}')
            assert known(hub)["a"].known.config == {"model_type": f"phi{step}"}


def test_lists_hold_while_others_write(folder: Path) -> None:
    wrong: list[str] = []
    with LocalHub(folder) as hub:

        def write() -> None:
            for step in range(30):
                made = hub.create_repo("model", "org", f"w{step}", private=False, author="me")
                commit(made, f'{{"model_type": "x{step}"}}')
                hub.delete_repo(made)

        writer = threading.Thread(target=write)
        writer.start()
        while writer.is_alive():
            names = set(listed(hub.index, "org"))
            if not {"a", "b", "c"} <= names or len(names) > 4:
                wrong.append(f"{names}")
        writer.join()
        assert wrong == []
        assert set(listed(hub.index, "org")) == {"a", "b", "c"}


def test_the_newest_come_first_and_equals_by_name(hub: RunningHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    for name in ("org/m2", "org/m1", "also/m3"):
        api.create_repo(name)
    assert [m.id for m in api.list_models()] == ["also/m3", "org/m1", "org/m2"]
    monkeypatch.setattr(time, "time", lambda: 1_800_000_001.0)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="org/m2")
    assert [m.id for m in api.list_models()] == ["org/m2", "also/m3", "org/m1"]


def pages_of(hub: RunningHub, api: HfApi, between: Callable[[], object]) -> list[list[str]]:
    """Read the list of org's models page by page and do something after the first page."""
    from huggingface_hub import get_session

    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    answer = get_session().get(f"{hub.url}/api/models", params={"author": "org"}, headers=headers)
    found = [[m["id"] for m in answer.json()]]
    between()
    while "next" in answer.links:
        answer = get_session().get(answer.links["next"]["url"], headers=headers)
        found.append([m["id"] for m in answer.json()])
    return found


@pytest.fixture
def six(tmp_path: Path, unsynced: None) -> Iterator[RunningHub]:
    """A Hub with org/m0 to org/m5, which lists two at a time."""
    with serve(tmp_path / "hub", limits=ServerLimits(page=2)) as hub:
        for i in range(6):
            hub.hub.create_repo("model", "org", f"m{i}", private=False, author="me")
        yield hub


@pytest.mark.server
def test_a_repo_that_moves_while_pages_are_read_is_told_once(six: RunningHub) -> None:
    api = HfApi(endpoint=six.url, token=six.token)
    last = pages_of(six, api, lambda: None)[-1][-1]

    def touch() -> None:
        time.sleep(1)  # dates are in seconds: the last is the first now
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=last)

    told = Counter(name for page in pages_of(six, api, touch) for name in page)
    assert told == {f"org/m{i}": 1 for i in range(6)}
    assert next(iter(api.list_models())).id == last


@pytest.mark.server
def test_repos_hidden_or_deleted_while_pages_are_read_are_not_listed(six: RunningHub) -> None:
    owner, nobody = HfApi(endpoint=six.url, token=six.token), HfApi(endpoint=six.url, token=False)
    ahead = [name for page in pages_of(six, nobody, lambda: None)[1:] for name in page]

    def change() -> None:
        owner.update_repo_settings(ahead[0], visibility="private")
        owner.delete_repo(ahead[3])

    told = [name for page in pages_of(six, nobody, change) for name in page]
    assert set(told) == {f"org/m{i}" for i in range(6)} - {ahead[0], ahead[3]}


@pytest.mark.server
def test_nobody_reads_on_in_the_list_of_another(six: RunningHub) -> None:
    owner = HfApi(endpoint=six.url, token=six.token)
    owner.update_repo_settings("org/m5", visibility="private")
    assert len(list(owner.list_models(author="org"))) == 6
    reader = HfApi(endpoint=six.url, token=six.hub.tokens.make("guest", "read", ("guest",)))
    for api in (reader, HfApi(endpoint=six.url, token=False)):
        assert {m.id for m in api.list_models(author="org")} == {f"org/m{i}" for i in range(5)}
    pages = pages_of(six, owner, lambda: list(reader.list_models(author="org")))
    assert sum(len(page) for page in pages) == 6


def test_requests_are_counted_by_kind(hub: RunningHub, api: HfApi) -> None:
    before = hub.requests.counts()
    api.create_repo("org/m")
    api.model_info("org/m")
    list(api.list_datasets())
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=hub.url, token="wrong").whoami()
    assert hub.requests.counts() - before == {
        "POST /api/repos/create": 1,
        "GET /api/models/{namespace}/{name}": 1,
        "GET /api/datasets": 1,
        "GET (nowhere)": 1,
    }


@pytest.mark.server
def test_a_hub_can_be_far_away(tmp_path: Path, unsynced: None) -> None:
    with serve(tmp_path / "hub", limits=ServerLimits(latency=0.2)) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        began = time.monotonic()
        list(api.list_models())
        assert time.monotonic() - began >= 0.2


@pytest.mark.server
def test_a_grant_is_told_apart_by_all_that_it_gives(six: RunningHub, client: Callable[[Grant], HfApi]) -> None:
    """Two tokens of one user may see different things."""
    HfApi(endpoint=six.url, token=six.token).update_repo_settings("org/m5", visibility="private")
    make = six.hub.tokens.make
    narrow, wide = make("ci", "read", ("ci",)), make("ci", "read", ("ci", "org"))
    for token, count in ((wide, 6), (narrow, 5), (wide, 6)):
        assert len(list(HfApi(endpoint=six.url, token=token).list_models(author="org"))) == count
