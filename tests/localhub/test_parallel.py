"""Many writers at once, in threads and in processes: each lands or is told to look again; nothing is lost."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from bot.localhub import RunningHub, check
from tests.localhub.test_kill import served

Result = TypeVar("Result")


def at_once(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do all of some things at the same time."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [f.result() for f in [pool.submit(job) for job in jobs]]


def write(api: HfApi, path: str) -> str:
    add = [CommitOperationAdd(path, path.encode()), CommitOperationAdd(f"{path}.bin", b"\0" + path.encode())]
    return str(api.create_commit("org/m", add, commit_message=path).oid)


def test_writers_in_two_processes(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    with served(hub.hub.folder) as (_, url):
        clients = [api, HfApi(endpoint=url, token=hub.token)]

        def write_three(writer: int) -> list[str]:
            return [write(clients[writer % 2], f"{writer}-{i}") for i in range(3)]

        landed = {oid for oids in at_once([partial(write_three, w) for w in range(6)]) for oid in oids}
    history = [c.commit_id for c in api.list_repo_commits("org/m")]
    assert len(history) == len(set(history)) == 19
    assert landed == set(history[:-1])
    assert set(api.list_repo_files("org/m")) == {
        ".gitattributes", *(f"{w}-{i}{s}" for w in range(6) for i in range(3) for s in ("", ".bin"))
    }  # fmt: skip
    assert check(hub.hub.folder) == []


def test_a_counter_that_many_raise_misses_no_step(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"0", path_in_repo="n", repo_id="org/m")
    refused: list[int] = []

    def raise_it(writer: int) -> None:
        for _ in range(3):
            while True:
                head = str(api.model_info("org/m").sha)
                old = int(Path(api.hf_hub_download("org/m", "n", revision=head)).read_text().split()[0])
                add = [CommitOperationAdd("n", f"{old + 1} by {writer}".encode())]
                try:
                    api.create_commit("org/m", add, commit_message=f"{old + 1}", parent_commit=head)
                    break
                except HfHubHTTPError as e:
                    assert e.response.status_code == 412  # noqa: PT017
                    refused.append(old)

    at_once([partial(raise_it, w) for w in range(4)])
    assert api.model_info("org/m").sha is not None
    assert [c.title for c in api.list_repo_commits("org/m")][:12] == [str(n) for n in range(12, 0, -1)]
    assert refused, "the writers never met: this test showed nothing"


def test_one_of_many_makes_a_repo(api: HfApi) -> None:
    def make() -> str:
        try:
            return str(api.create_repo("org/new"))
        except HfHubHTTPError as e:
            return str(e.response.status_code)

    found = at_once([make] * 6)
    assert sorted(found)[:5] == ["409"] * 5


def test_the_same_content_at_the_same_time(hub: RunningHub, api: HfApi) -> None:
    content = b"\0" * 300_000
    for i in range(4):
        api.create_repo(f"org/m{i}")

    def upload(number: int) -> str:
        return str(api.upload_file(path_or_fileobj=content, path_in_repo="w.bin", repo_id=f"org/m{number}"))

    at_once([partial(upload, i) for i in range(4)])
    assert check(hub.hub.folder) == []
    assert len([f for f in (hub.hub.folder / "blobs").glob("*/*") if f.stat().st_size == 300_000]) == 1


def test_pull_requests_have_numbers_of_their_own(api: HfApi) -> None:
    api.create_repo("org/m")

    def propose(name: str) -> int:
        add = [CommitOperationAdd(name, b"x")]
        return api.create_commit("org/m", add, commit_message=name, create_pr=True).pr_num or 0

    assert sorted(at_once([partial(propose, str(n)) for n in range(6)])) == [1, 2, 3, 4, 5, 6]


def test_reading_while_repos_come_and_go(api: HfApi) -> None:
    api.create_repo("org/stays")

    def come_and_go() -> None:
        for _ in range(10):
            api.create_repo("org/goes")
            api.delete_repo("org/goes")

    def read() -> None:
        for _ in range(30):
            assert "org/stays" in {m.id for m in api.list_models(full=True)}

    at_once([come_and_go, read, read])
