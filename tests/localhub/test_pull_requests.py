"""Pull requests and discussions through the Hub's own client."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError

from bot.localhub import Grant, RunningHub

GUEST = Grant(name="guest", scope="write", namespaces=())


@pytest.fixture
def repo(api: HfApi) -> str:
    """A repo with two files."""
    api.create_repo("org/m")
    adds = [CommitOperationAdd("a.txt", b"1\n"), CommitOperationAdd("b.txt", b"1\n")]
    api.create_commit("org/m", adds, commit_message="Start")
    return "org/m"


def propose(
    api: HfApi, repo: str, path: str, content: bytes, *, why: str | None = None, parent: str | None = None
) -> int:
    made = api.create_commit(
        repo,
        [CommitOperationAdd(path, content)],
        commit_message=f"Change {path}",
        commit_description=why,
        parent_commit=parent,
        create_pr=True,
    )
    assert made.pr_num is not None
    return int(made.pr_num)


def content(api: HfApi, repo: str, path: str, revision: str = "main") -> bytes:
    return Path(api.hf_hub_download(repo, path, revision=revision)).read_bytes()


def test_a_pull_request_from_commit_to_merge(api: HfApi, repo: str) -> None:
    number = propose(api, repo, "a.txt", b"2\n", why="Because")
    assert number == 1
    assert content(api, repo, "a.txt") == b"1\n"
    assert content(api, repo, "a.txt", "refs/pr/1") == b"2\n"
    api.upload_file(path_or_fileobj=b"3\n", path_in_repo="c.txt", repo_id=repo, revision="refs/pr/1")
    details = api.get_discussion_details(repo, 1)
    assert (details.status, details.is_pull_request, details.title) == ("open", True, "Change a.txt")
    assert (details.target_branch, details.conflicting_files, details.merge_commit_oid) == ("refs/heads/main", [], None)
    assert [e.type for e in details.events] == ["comment", "commit", "commit"]
    assert details.diff is not None
    assert "-1\n+2\n" in details.diff
    api.merge_pull_request(repo, 1, comment="Thanks")
    merged = api.get_discussion_details(repo, 1)
    assert (merged.status, merged.merge_commit_oid) == ("merged", api.model_info(repo).sha)
    assert content(api, repo, "a.txt") == b"2\n"
    assert content(api, repo, "c.txt") == b"3\n"
    assert [c.title for c in api.list_repo_commits(repo)] == ["Change a.txt (#1)", "Start", "initial commit"]
    with pytest.raises(HfHubHTTPError, match="merged pull requests cannot be merged"):
        api.merge_pull_request(repo, 1)
    with pytest.raises(HfHubHTTPError, match="is merged"):
        api.upload_file(path_or_fileobj=b"4", path_in_repo="d", repo_id=repo, revision="refs/pr/1")


def test_both_sides_are_kept(api: HfApi, repo: str) -> None:
    propose(api, repo, "a.txt", b"theirs\n")
    api.create_commit(
        repo,
        [CommitOperationAdd("new.txt", b"ours\n"), CommitOperationDelete("b.txt")],
        commit_message="Meanwhile",
    )
    api.merge_pull_request(repo, 1)
    assert api.list_repo_files(repo) == [".gitattributes", "a.txt", "new.txt"]
    assert content(api, repo, "a.txt") == b"theirs\n"


def test_a_conflict_is_named_and_not_merged(api: HfApi, repo: str) -> None:
    propose(api, repo, "a.txt", b"theirs\n")
    api.upload_file(path_or_fileobj=b"ours\n", path_in_repo="a.txt", repo_id=repo)
    assert api.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match=r"409.*") as error:
        api.merge_pull_request(repo, 1)
    assert "a.txt" in str(error.value)
    assert content(api, repo, "a.txt") == b"ours\n"
    assert api.get_discussion_details(repo, 1).status == "open"


def test_a_merge_that_was_cut_off_is_completed(hub: RunningHub, api: HfApi, repo: str) -> None:
    """The commit has landed, the status was not written yet: merging again only writes the status."""
    propose(api, repo, "a.txt", b"2\n")
    file = hub.hub.folder / "repos/models/org/m/discussions/1.json"
    before = file.read_bytes()
    api.merge_pull_request(repo, 1)
    head = api.model_info(repo).sha
    file.write_bytes(before)
    api.merge_pull_request(repo, 1)
    assert api.model_info(repo).sha == head == api.get_discussion_details(repo, 1).merge_commit_oid


def test_a_draft_is_opened_before_it_is_merged(api: HfApi, repo: str) -> None:
    draft = api.create_pull_request(repo, "  A better card ", description="Soon")
    assert (draft.status, draft.num, draft.git_reference, draft.title) == ("draft", 1, "refs/pr/1", "A better card")
    api.upload_file(path_or_fileobj=b"2\n", path_in_repo="a.txt", repo_id=repo, revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError, match="draft pull requests cannot be merged"):
        api.merge_pull_request(repo, 1)
    api.change_discussion_status(repo, 1, "open")
    api.merge_pull_request(repo, 1)
    assert content(api, repo, "a.txt") == b"2\n"


def test_a_stale_pull_request_is_refused(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="404"):
        propose(api, repo, "a.txt", b"2\n", parent="0" * 40)
    old = api.list_repo_commits(repo)[1].commit_id
    propose(api, repo, "z.txt", b"z\n", parent=old)
    assert api.list_repo_files(repo, revision="refs/pr/1") == [".gitattributes", "z.txt"]


def test_guests_may_propose_and_nothing_more(api: HfApi, repo: str, client: Callable[[Grant], HfApi]) -> None:
    guest, other = client(GUEST), client(Grant(name="other", scope="write", namespaces=()))
    reader = client(Grant(name="reader", scope="read", namespaces=("org",)))
    propose(guest, repo, "weights.bin", b"\0" * 100)
    guest.upload_file(path_or_fileobj=b"more", path_in_repo="more", repo_id=repo, revision="refs/pr/1")
    for call in (
        lambda: guest.merge_pull_request(repo, 1),
        lambda: other.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/pr/1"),
        lambda: other.change_discussion_status(repo, 1, "closed"),
        lambda: reader.comment_discussion(repo, 1, "hi"),
        lambda: propose(reader, repo, "a.txt", b"2"),
    ):
        with pytest.raises(HfHubHTTPError, match="403"):
            call()
    guest.change_discussion_status(repo, 1, "closed", comment="Changed my mind")
    assert [e.type for e in api.get_discussion_details(repo, 1).events][-2:] == ["comment", "status-change"]


def test_discussions(api: HfApi, repo: str, client: Callable[[Grant], HfApi]) -> None:
    guest = client(GUEST)
    talk = guest.create_discussion(repo, "A question", description="What is **this**?")
    comment = api.comment_discussion(repo, talk.num, "An answer")
    edited = api.edit_discussion_comment(repo, talk.num, comment.id, "A better answer")
    assert (edited.content, edited.edited) == ("A better answer", True)
    with pytest.warns(UserWarning, match="irreversible"):
        hidden = api.hide_discussion_comment(repo, talk.num, comment.id)
    assert (hidden.content, hidden.hidden) == ("", True)
    renamed = guest.rename_discussion(repo, talk.num, "A good question")
    assert (renamed.old_title, renamed.new_title) == ("A question", "A good question")
    with pytest.raises(HfHubHTTPError, match="403"):
        guest.edit_discussion_comment(repo, talk.num, api.comment_discussion(repo, talk.num, "x").id, "mine now")
    with pytest.raises(HfHubHTTPError, match="open discussions cannot be merged"):
        api.merge_pull_request(repo, talk.num)
    propose(api, repo, "a.txt", b"2\n")
    assert [d.num for d in api.get_repo_discussions(repo)] == [2, 1]
    assert [d.num for d in api.get_repo_discussions(repo, discussion_type="pull_request")] == [2]
    assert [d.num for d in api.get_repo_discussions(repo, author="guest", discussion_status="open")] == [1]
    with pytest.raises(RemoteEntryNotFoundError):
        api.get_discussion_details(repo, 99)


def test_long_lists_of_discussions_come_in_pages(api: HfApi, repo: str) -> None:
    for i in range(53):
        api.create_discussion(repo, f"Number {i}")
    assert [d.num for d in api.get_repo_discussions(repo)] == list(range(53, 0, -1))
