"""Pull requests on the Hub: opened once, changed, merged and closed, whatever becomes of the answers."""

import random

import pytest

from bot.errors import ConflictError, HubRefusedError, PhiBotError, UnknownModelError, UnknownRevisionError
from bot.hub.client import Hub, HubFile, connect
from bot.localhub import Grant, RunningHub
from tests.hub.faulty import Fault, Proxy
from tests.hub.fixtures import Log

REPO = "me/Phi-4-GGUF"
WEIGHTS = random.Random(1).randbytes(50_000)
TITLE = "Rebuild with a new recipe"


@pytest.fixture
def main(client: Hub) -> str:
    """A published repo; its head."""
    files = {"README.md": b"# Phi\n", "model.gguf": WEIGHTS, "old.gguf": WEIGHTS[1:]}
    return client.commit(REPO, files=files, parent=None, message="Publish", task=Log())


def propose(hub: Hub, parent: str, content: bytes = b"# Better\n", title: str = TITLE) -> int:
    return hub.propose(
        REPO,
        files={"README.md": content, "model.gguf": WEIGHTS[::-1]},
        delete=("old.gguf", "not-there"),
        parent=parent,
        title=title,
        description="See the pull request on GitHub.",
        task=Log(),
    )


def head(hub: Hub, revision: str | None = None) -> str:
    found = hub.files(REPO, revision)
    assert found is not None
    return found[0]


def paths(hub: Hub, revision: str | None = None) -> set[str]:
    found = hub.files(REPO, revision)
    assert found is not None
    return set(found[1]) - {".gitattributes"}


def content(hub: Hub, revision: str, path: str) -> bytes:
    found = hub.files(REPO, revision)
    assert found is not None
    return hub.read(REPO, found[0], found[1][path])


# ---- opening -----------------------------------------------------------------------------------------------------


def test_a_proposal_is_one_commit_beside_main(client: Hub, main: str) -> None:
    number = propose(client, main)
    pull = client.proposals(REPO)[0]
    assert (pull.number, pull.title, pull.author, pull.status) == (number, TITLE, "local", "open")
    assert paths(client) == {"README.md", "model.gguf", "old.gguf"}
    assert paths(client, pull.revision) == {"README.md", "model.gguf"}
    assert content(client, pull.revision, "README.md") == b"# Better\n"
    assert [c.title for c in client.api.list_repo_commits(REPO, revision=pull.revision)][:2] == [TITLE, "Publish"]
    assert head(client) == main


def test_staged_files_are_proposed_without_an_upload(shaky: Hub, faulty: Proxy, client: Hub, main: str) -> None:
    staged = client.commit(
        "me/staging", files={"a/model.gguf": WEIGHTS[::-1]}, parent=None, message="Stage", task=Log()
    )
    file = client.files("me/staging")[1]["a/model.gguf"]  # type: ignore[index]
    number = shaky.propose(
        REPO,
        files={"model.gguf": HubFile(repo_id="me/staging", commit=staged, file=file)},
        parent=main,
        title=TITLE,
        description="",
        task=Log(),
    )
    assert faulty.count("PUT", "") == 0
    assert content(client, f"refs/pr/{number}", "model.gguf") == WEIGHTS[::-1]


def test_the_same_again_is_the_same_proposal(shaky: Hub, faulty: Proxy, main: str) -> None:
    number = propose(shaky, main)
    faulty.seen.clear()
    assert propose(shaky, main) == number
    assert {m for m, _, _ in faulty.seen} == {"GET"}
    assert propose(shaky, main, b"# Another\n") != number
    assert propose(shaky, main, title="Another one") != number


def test_files_already_on_main_are_not_proposed(client: Hub, main: str) -> None:
    with pytest.raises(HubRefusedError, match="holds all of it already"):
        client.propose(REPO, files={"README.md": b"# Phi\n"}, parent=main, title=TITLE, description="", task=Log())
    assert client.proposals(REPO) == []


def test_a_proposal_starts_from_main(client: Hub, main: str) -> None:
    with pytest.raises(UnknownRevisionError, match="0000"):
        propose(client, "0" * 40)
    aside = head(client, f"refs/pr/{propose(client, main)}")
    with pytest.raises(ConflictError):
        propose(client, aside, b"# On top of another\n")


def test_a_proposal_whose_answer_was_lost_is_found_again(shaky: Hub, faulty: Proxy, main: str) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", lose=True, times=1))
    number = propose(shaky, main)
    assert [p.number for p in shaky.proposals(REPO)] == [number]
    assert faulty.count("POST", "/commit/") == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_proposal_that_was_not_made_is_made_again(shaky: Hub, faulty: Proxy, main: str, status: int) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", status=status, times=2))
    number = propose(shaky, main)
    assert [p.number for p in shaky.proposals(REPO)] == [number]


@pytest.mark.usefixtures("at_once")
def test_a_proposal_whose_answer_was_cut_is_found_again(shaky: Hub, faulty: Proxy, main: str) -> None:
    faulty.faults.append(Fault(method="POST", path="/commit/", half=True, times=1))
    number = propose(shaky, main)
    assert [p.number for p in shaky.proposals(REPO)] == [number]


def test_the_pull_requests_of_others_are_not_ours(hub: RunningHub, client: Hub, main: str) -> None:
    guest = connect(hub.url, hub.hub.tokens.make("guest", "write", ()))
    theirs = propose(guest, main)
    assert client.proposals(REPO) == []
    ours = propose(client, main)  # though theirs has the same title and content: they may still change it
    assert ours != theirs
    assert [p.author for p in guest.proposals(REPO)] == ["guest"]


def test_no_repo_has_no_proposals(client: Hub) -> None:
    assert client.proposals("me/nothing") == []


# ---- changing ----------------------------------------------------------------------------------------------------


def test_a_proposal_is_changed_only_where_its_content_differs(client: Hub, main: str) -> None:
    number = propose(client, main)
    before = head(client, f"refs/pr/{number}")
    same = client.update_proposal(REPO, number, files={"README.md": b"# Better\n"}, message="Update", task=Log())
    assert same == before
    after = client.update_proposal(
        REPO, number, files={"README.md": b"# Best\n"}, delete=("model.gguf",), message="Update", task=Log()
    )
    assert head(client, f"refs/pr/{number}") == after != before
    assert content(client, f"refs/pr/{number}", "README.md") == b"# Best\n"
    assert paths(client, f"refs/pr/{number}") == {"README.md"}
    assert head(client) == main


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", [{"lose": True}, {"status": 503}, {"half": True}])
def test_a_change_of_a_proposal_is_made_once(shaky: Hub, faulty: Proxy, main: str, fault: dict[str, object]) -> None:
    number = propose(shaky, main)
    faulty.faults.append(Fault(method="POST", path="/commit/", times=1, **fault))  # type: ignore[arg-type]
    head = shaky.update_proposal(REPO, number, files={"README.md": b"# Best\n"}, message="Update", task=Log())
    found = shaky.api.list_repo_commits(REPO, revision=f"refs/pr/{number}")
    assert [c.title for c in found[:3]] == ["Update", TITLE, "Publish"]
    assert found[0].commit_id == head


def test_a_change_of_no_proposal_is_refused(client: Hub, main: str) -> None:
    with pytest.raises(UnknownRevisionError, match="refs/pr/7"):
        client.update_proposal(REPO, 7, files={"README.md": b"# Best\n"}, message="Update", task=Log())


# ---- merging and closing -----------------------------------------------------------------------------------------


def test_a_merged_proposal_is_on_main_and_stays_merged(client: Hub, main: str) -> None:
    number = propose(client, main)
    commit = client.merge(REPO, number, "Merged with the pull request on GitHub.")
    assert head(client) == commit != main
    assert paths(client) == {"README.md", "model.gguf"}
    assert client.merge(REPO, number, "Again") == commit
    assert client.close(REPO, number, "Too late") == "merged"
    assert client.proposals(REPO) == []
    comments = [e for e in client.api.get_discussion_details(REPO, number).events if e.type == "comment"]
    assert [c.content for c in comments][1:] == ["Merged with the pull request on GitHub."]  # type: ignore[attr-defined]


def test_a_closed_proposal_is_not_merged(client: Hub, main: str) -> None:
    number = propose(client, main)
    assert client.close(REPO, number, "Closed on GitHub.") == "closed"
    assert client.close(REPO, number, "Again") == "closed"
    with pytest.raises(HubRefusedError, match=f"pull request {number} of {REPO} is closed"):
        client.merge(REPO, number)
    assert head(client) == main


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", [{"lose": True}, {"status": 503}, {"half": True}])
def test_a_merge_and_a_close_are_made_once(shaky: Hub, faulty: Proxy, main: str, fault: dict[str, object]) -> None:
    first, second = propose(shaky, main), propose(shaky, main, b"# Another\n")
    faulty.faults += [
        Fault(method="POST", path=path, times=1, **fault)  # type: ignore[arg-type]
        for path in ("/merge$", "/status$")
    ]
    commit = shaky.merge(REPO, first)
    assert shaky.close(REPO, second, "No") == "closed"
    assert [c.commit_id for c in shaky.api.list_repo_commits(REPO)][:2] == [commit, main]
    assert len([e for e in shaky.api.get_discussion_details(REPO, second).events if e.type == "status-change"]) == 1


def test_a_merge_that_would_overwrite_a_newer_main_is_a_conflict(client: Hub, main: str) -> None:
    number = propose(client, main)
    newer = client.commit(REPO, files={"README.md": b"# Newer\n"}, parent=main, message="Publish", task=Log())
    with pytest.raises(ConflictError, match="main changed in the same files"):
        client.merge(REPO, number)
    assert head(client) == newer


def test_a_proposal_changed_after_its_check_is_not_merged(client: Hub, main: str) -> None:
    number = propose(client, main)
    checked = head(client, f"refs/pr/{number}")
    later = client.update_proposal(REPO, number, files={"README.md": b"# Evil\n"}, message="Slip it in", task=Log())
    with pytest.raises(ConflictError, match="since it was checked"):
        client.merge(REPO, number, commit=checked)
    assert head(client) == main
    client.merge(REPO, number, commit=later)


def test_only_who_may_write_merges(hub: RunningHub, client: Hub, main: str) -> None:
    grant = Grant(name="guest", scope="write", namespaces=())
    guest = connect(hub.url, hub.hub.tokens.make(grant.name, grant.scope, grant.namespaces))
    number = propose(guest, main)
    with pytest.raises(PhiBotError) as caught:
        guest.merge(REPO, number)
    assert caught.value.exit_code == 30
    assert head(client) == main


@pytest.mark.parametrize("number", [7, 1])
def test_a_number_without_a_pull_request_is_an_error(client: Hub, main: str, number: int) -> None:
    assert client.api.create_discussion(REPO, "A question").num == 1
    with pytest.raises(HubRefusedError, match=f"{REPO} has no pull request {number}"):
        client.merge(REPO, number)
    with pytest.raises(HubRefusedError, match=f"{REPO} has no pull request {number}"):
        client.close(REPO, number)


def test_a_pull_request_of_no_repo_names_the_repo(client: Hub) -> None:
    with pytest.raises(UnknownModelError, match="me/nothing"):
        client.merge("me/nothing", 1)
