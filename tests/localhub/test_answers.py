"""What the real client is told, in the status and the words of the real Hub."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub import RunningHub, check, front_matter
from bot.localhub.headers import request_id
from bot.records.licenses import LICENSES
from tests.localhub.conftest import Ask


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def upload(api: HfApi, path: str, content: bytes = b"x", **options: Any) -> str:
    return str(api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="org/m", **options).oid)


# ---- errors ---------------------------------------------------------------------------------------------------


def test_a_stale_parent_is_told_in_the_hubs_words(api: HfApi) -> None:
    api.create_repo("org/m")
    start = api.model_info("org/m").sha
    upload(api, "a")
    with pytest.raises(HfHubHTTPError, match="The branch was updated since you opened") as e:
        api.create_commit("org/m", [CommitOperationAdd("b", b"2")], commit_message="2", parent_commit=start)
    assert status_of(e) == 412
    assert "this page. Please refresh and try again." in str(e.value)


def test_branches_that_cannot_be_made_or_deleted(api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_branch("org/m", branch="next")
    api.create_tag("org/m", tag="v1")
    for branch in ("next", "main"):
        with pytest.raises(HfHubHTTPError, match=f"Reference refs/heads/{branch} already exists") as error:
            api.create_branch("org/m", branch=branch)
        assert status_of(error) == 409
        api.create_branch("org/m", branch=branch, exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="Reference refs/tags/v1 already exists"):
        api.create_tag("org/m", tag="v1")
    with pytest.raises(BadRequestError, match="Cannot delete refs/heads/main"):
        api.delete_branch("org/m", branch="main")
    for branch in ("none", "v1"):
        with pytest.raises(RevisionNotFoundError, match="Invalid rev id: refs/heads/"):
            api.delete_branch("org/m", branch=branch)
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id: none"):
        api.model_info("org/m", revision="none")
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id"):
        api.create_branch("org/m", branch="other", revision="none")


@pytest.mark.parametrize(
    "path", ["..\\ddd", "a\\..\\b", "../x", "a/../x", "/x", "a//b", ".git/config", "a\nb", "x" * 300]
)
def test_a_path_that_no_file_can_have_is_unprocessable(api: HfApi, ask: Ask, path: str) -> None:
    api.create_repo("org/m")
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": path, "content": "", "encoding": "base64"}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    assert ask("POST", "/api/models/org/m/commit/main", body=body, token=str(api.token)).status == 422
    files = json.dumps({"files": [{"path": path, "size": 1, "sample": ""}]}).encode()
    assert ask("POST", "/api/models/org/m/preupload/main", body=files, token=str(api.token)).status == 422
    assert api.list_repo_files("org/m") == [".gitattributes"]


# ---- the name of a request --------------------------------------------------------------------------------------


def test_a_request_is_called_as_the_caller_calls_it(api: HfApi, ask: Ask, hub: RunningHub) -> None:
    assert ask("GET", "/", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    assert ask("GET", "/", headers={"X-Amzn-Trace-Id": "trace"}).headers["x-request-id"] == "trace"
    both = {"X-Amzn-Trace-Id": "trace", "X-Request-Id": "mine"}
    assert ask("GET", "/api/nonsense", headers=both).headers["x-request-id"] == "mine"
    new = {ask("GET", "/").headers["x-request-id"] for _ in range(3)}
    assert len(new) == 3
    assert all(str(uuid.UUID(name)) == name for name in new)
    with pytest.raises(RepositoryNotFoundError) as error:
        api.model_info("org/none")
    assert f"Request ID: {error.value.response.headers['X-Request-Id']}" in str(error.value)


@given(st.text(max_size=300))
def test_a_name_that_is_none_is_not_repeated(text: str) -> None:
    found = request_id(None, text)
    assert found.isascii()
    assert found.isprintable()
    assert 1 <= len(found) <= 200
    assert " " not in found


# ---- short commit ids -----------------------------------------------------------------------------------------


def test_the_beginning_of_a_commit_id_is_enough(api: HfApi) -> None:
    api.create_repo("org/m")
    commits = [upload(api, "v", str(n).encode()) for n in range(5)]
    for oid in commits:
        for length in (7, 12, 39, 40):
            assert api.model_info("org/m", revision=oid[:length]).sha == oid
    api.create_tag("org/m", tag="short", revision=commits[1][:7])
    api.create_branch("org/m", branch="next", revision=commits[2][:9])
    assert api.model_info("org/m", revision="short").sha == commits[1]
    assert api.model_info("org/m", revision="next").sha == commits[2]
    assert Path(api.hf_hub_download("org/m", "v", revision=commits[3][:8])).read_bytes() == b"3"
    for wrong in (commits[0][:6], commits[0][:8] + "0" * 8, commits[0].upper()[:10] + "G"):
        with pytest.raises(RevisionNotFoundError):
            api.model_info("org/m", revision=wrong)


def test_a_beginning_of_two_commits_is_of_none_and_a_branch_goes_first(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    first, second = upload(api, "v", b"1"), upload(api, "v", b"2")
    repo = hub.hub.repo("model", "org", "m")
    assert repo is not None
    twin = first[:10] + ("0" if first[10] != "0" else "1") * 30
    (repo.folder / "commits" / f"{twin}.json").write_bytes((repo.folder / "commits" / f"{first}.json").read_bytes())
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/m", revision=first[:10])
    assert api.model_info("org/m", revision=first[:11]).sha == first
    api.create_branch("org/m", branch=first[:10], revision=second)
    assert api.model_info("org/m", revision=first[:10]).sha == second


# ---- pull requests against a branch ---------------------------------------------------------------------------


def test_a_pull_request_against_a_branch(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_branch("org/m", branch="next/try")
    upload(api, "on-next", revision="next/try")
    main = api.model_info("org/m").sha
    add = [CommitOperationAdd("file", b"content")]
    made = api.create_commit("org/m", add, commit_message="Propose", revision="next/try", create_pr=True)
    number = made.pr_num or 0
    assert "on-next" in api.list_repo_files("org/m", revision=made.pr_revision)
    details = api.get_discussion_details("org/m", number)
    assert details.target_branch == "refs/heads/next/try"
    api.merge_pull_request("org/m", number)
    assert api.file_exists("org/m", "file", revision="next/try")
    assert api.model_info("org/m").sha == main
    assert check(hub.hub.folder) == []


def test_conflicts_are_with_the_branch_itself(api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_branch("org/m", branch="next")
    add = [CommitOperationAdd("file", b"theirs")]
    api.create_commit("org/m", add, commit_message="Propose", revision="next", create_pr=True)
    upload(api, "file", b"on main")
    assert api.get_discussion_details("org/m", 1).conflicting_files == []
    upload(api, "file", b"on next", revision="next")
    assert api.get_discussion_details("org/m", 1).conflicting_files == ["file"]
    with pytest.raises(HfHubHTTPError, match="next has changed too: file"):
        api.merge_pull_request("org/m", 1)


def test_a_branch_that_is_gone_takes_no_pull_request(api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_branch("org/m", branch="next")
    add = [CommitOperationAdd("file", b"content")]
    api.create_commit("org/m", add, commit_message="Propose", revision="next", create_pr=True)
    api.delete_branch("org/m", branch="next")
    assert api.get_discussion_details("org/m", 1).status == "open"
    with pytest.raises(RevisionNotFoundError):
        api.merge_pull_request("org/m", 1)


def test_a_pull_request_is_against_a_branch_alone(api: HfApi) -> None:
    api.create_repo("org/m")
    head = upload(api, "a")
    api.create_tag("org/m", tag="v1")
    add = [CommitOperationAdd("file", b"content")]
    for revision in (head, head[:8], "none", "v1"):
        for create_pr in (True, False):
            with pytest.raises(RevisionNotFoundError):
                api.create_commit("org/m", add, commit_message="x", revision=revision, create_pr=create_pr)
    assert list(api.get_repo_discussions("org/m")) == []


# ---- squashing ------------------------------------------------------------------------------------------------


def test_squashing_a_pull_request(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/m")
    pr = api.create_pull_request("org/m", "Propose")
    for n in range(3):
        upload(api, "n", str(n).encode(), revision=str(pr.git_reference))
    upload(api, "w.bin", b"\0w", revision=str(pr.git_reference))
    api.super_squash_history("org/m", branch=str(pr.git_reference), commit_message="One")
    assert [c.title for c in api.list_repo_commits("org/m", revision=pr.git_reference)] == ["One"]
    assert {"n", "w.bin"} <= set(api.list_repo_files("org/m", revision=pr.git_reference))
    api.change_discussion_status("org/m", pr.num, "open")
    with pytest.raises(HfHubHTTPError, match="one of them was squashed"):
        api.merge_pull_request("org/m", pr.num)
    with pytest.raises(RevisionNotFoundError):
        api.super_squash_history("org/m", branch="refs/pr/9")
    assert check(hub.hub.folder) == []


# ---- deleting a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["a/b", "a/b/"])
def test_a_folder_is_deleted_by_its_path(api: HfApi, written: str) -> None:
    api.create_repo("org/m")
    adds = [CommitOperationAdd(p, b"x") for p in ("a/b/c", "a/b/d/e", "a/bc", "a/b.txt")]
    api.create_commit("org/m", adds, commit_message="Add")
    operation = (
        CommitOperationDelete(written) if written.endswith("/") else CommitOperationDelete("a/b", is_folder=False)
    )
    api.create_commit("org/m", [operation], commit_message="Delete")
    assert api.list_repo_files("org/m") == [".gitattributes", "a/b.txt", "a/bc"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit("org/m", [CommitOperationDelete("a/b", is_folder=False)], commit_message="Again")


# ---- licences -------------------------------------------------------------------------------------------------


def test_a_licence_that_the_hub_does_not_know_is_refused(api: HfApi) -> None:
    api.create_repo("org/m")
    for wrong in ("asdf", "MIT", "phi-research", "[mit, asdf]", ""):
        card = f"---\nlicense: {wrong or chr(34) * 2}\n---\n"
        with pytest.raises(ValueError, match='"license" must be one of'):
            upload(api, "README.md", card.encode())
    upload(api, "README.md", b"---\nlicense: other\nlicense_name: phi-research\nlicense_link: LICENSE\n---\n")
    upload(api, "README.md", b"---\nlicense: [mit, apache-2.0]\n---\n")


def test_a_person_who_asks_is_told_in_words(ask: Ask) -> None:
    body = json.dumps({"repoType": "model", "content": "---\nlicense: asdf\ntags: 3\n---\n"}).encode()
    answer = ask("POST", "/api/validate-yaml", headers={"Accept": "text/plain"}, body=body)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    first, second = answer.body.decode().splitlines()
    assert first.startswith('- Error: "license" must be one of [apache-2.0')
    assert second == '- Error: "tags" must be a list of texts'
    fine = ask("POST", "/api/validate-yaml", headers={"Accept": "text/plain"}, body=b'{"content": "# No head"}')
    assert (fine.status, fine.body) == (200, b"- Warning: empty or missing yaml metadata in repo card")


@pytest.mark.parametrize("before", ["", "\n", "\r\n \n", "\ufeff\n"])
def test_a_head_may_come_after_empty_lines(before: str) -> None:
    assert front_matter.metadata(f"{before}---\nlicense: mit\n---\n# Title") == {"license": "mit"}
    assert front_matter.metadata(f"x{before}\n---\nlicense: mit\n---\n") == {}


@given(st.sampled_from(LICENSES))
def test_each_licence_of_the_hubs_list_is_taken(name: str) -> None:
    assert front_matter.judge(f"---\nlicense: {name}\nlicense_name: x\n---\n").errors == ()


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1))
def test_any_other_is_not(name: str) -> None:
    found = front_matter.judge(f'---\nlicense: "{name}"\n---\n').errors
    assert bool(found) == (name not in LICENSES)


def test_an_index_of_results_is_a_list(api: HfApi) -> None:
    api.create_repo("org/m")
    with pytest.raises(ValueError, match='"model-index" must be an array'):
        upload(api, "README.md", b"---\nmodel-index: foo\n---\n")
