"""Ids that are not the one a repo is kept under: other cases, former names, and names without a namespace."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.localhub import Grant, LocalHub, RunningHub, check, serve
from tests.localhub.conftest import Ask
from tests.localhub.test_parallel import at_once

STRANGER = Grant(name="stranger", scope="write", namespaces=())


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


# ---- other cases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repo_id", ["org/phi-4", "ORG/PHI-4", "Org/phi-4", "org/Phi-4"])
def test_every_call_finds_a_repo_in_any_case(api: HfApi, repo_id: str) -> None:
    api.create_repo("Org/Phi-4")
    adds = [CommitOperationAdd("w.bin", b"\0w" * 100), CommitOperationAdd("t.txt", b"text")]
    landed = api.create_commit(repo_id, adds, commit_message="Add")
    assert api.model_info(repo_id).id == "Org/Phi-4"
    assert api.model_info(repo_id, revision="main").sha == landed.oid
    assert api.repo_exists(repo_id)
    assert api.file_exists(repo_id, "w.bin")
    assert Path(api.hf_hub_download(repo_id, "w.bin")).read_bytes() == b"\0w" * 100
    assert Path(api.hf_hub_download(repo_id, "t.txt")).read_bytes() == b"text"
    assert "t.txt" in api.list_repo_files(repo_id)
    api.create_branch(repo_id, branch="next")
    api.update_repo_settings(repo_id, private=True)
    assert api.model_info("Org/Phi-4").private
    assert api.create_pull_request(repo_id, "Propose").num == 1
    api.delete_repo(repo_id)
    assert not api.repo_exists("Org/Phi-4")


def test_a_redirect_keeps_the_rest_of_the_address(ask: Ask, api: HfApi) -> None:
    for kind, at in (("model", ""), ("dataset", "datasets/")):
        api.create_repo("Org/M", repo_type=kind)
        for path in ("{at}ORG/m/resolve/main/a%20b?x=1&y=%2F", "api/{kind}s/org/m/tree/main/d%2Fe?recursive=true"):
            answer = ask("GET", "/" + path.format(at=at, kind=kind))
            there = "/" + path.format(at=at, kind=kind).replace("ORG/m", "Org/M").replace("org/m", "Org/M")
            assert (answer.status, answer.headers["location"]) == (307, there)
        answer = ask("POST", f"/{at}org/m.git/info/lfs/objects/batch", body=b"{}", token=str(api.token))
        assert (answer.status, answer.headers["location"]) == (307, f"/{at}Org/M.git/info/lfs/objects/batch")


def test_two_names_that_differ_in_case_alone_are_one(api: HfApi) -> None:
    api.create_repo("Org/Phi-4")
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("org/phi-4")
    assert status_of(error) == 409
    assert api.create_repo("oRG/PHI-4", exist_ok=True).repo_id == "Org/Phi-4"
    assert api.create_repo("org/other").repo_id == "Org/other"
    assert api.create_repo("org/other", repo_type="dataset").repo_id == "Org/other"
    assert {m.id for m in api.list_models()} == {"Org/Phi-4", "Org/other"}


def test_names_made_at_once_are_one(api: HfApi) -> None:
    spellings = ["org/new", "Org/new", "org/New", "ORG/NEW", "oRg/nEw", "orG/neW"]

    def make(repo_id: str) -> str:
        try:
            return str(api.create_repo(repo_id).repo_id)
        except HfHubHTTPError as e:
            return str(e.response.status_code)

    found = at_once([lambda r=r: make(r) for r in spellings])  # type: ignore[misc]
    assert sorted(found)[:5] == ["409"] * 5
    assert len(list(api.list_models())) == 1


def test_a_token_is_for_a_namespace_in_any_case(hub: RunningHub, client: Callable[[Grant], HfApi]) -> None:
    api = client(Grant(name="Me", scope="write", namespaces=("org",)))
    assert api.create_repo("me/a", private=True).repo_id == "Me/a"
    assert api.create_repo("ORG/a", private=True).repo_id == "org/a"
    assert api.model_info("mE/A").private
    single = client(Grant(name="ci", scope="write", namespaces=("ME/a",)))
    single.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="me/A")
    with pytest.raises(RepositoryNotFoundError):
        single.model_info("org/a")


def test_spelling_tells_nobody_of_a_private_repo(hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    api.create_repo("Org/Secret", private=True)
    for other in (client(STRANGER), HfApi(endpoint=hub.url, token=False)):
        with pytest.raises(RepositoryNotFoundError) as error:
            other.model_info("org/secret")
        assert "Secret" not in str(error.value)
        assert not error.value.response.history


def test_a_gate_stands_before_every_spelling(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("Org/M")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="Org/M")
    api.update_repo_settings("Org/M", gated="manual")
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.url, token=False).hf_hub_download("org/m", "x")


WORDS = st.from_regex(r"[a-cA-C][a-c_A-C]{0,3}", fullmatch=True)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, WORDS), max_size=6))
def test_any_spelling_finds_the_one_repo(
    tmp_path_factory: pytest.TempPathFactory, unsynced: None, wanted: list[tuple[str, str]]
) -> None:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        kept: dict[str, str] = {}
        for namespace, name in wanted:
            key = f"{namespace}/{name}".lower()
            if key not in kept:
                kept[key] = hub.create_repo("model", namespace, name, private=False, author="me").id
            for spelled in (f"{namespace}/{name}", key, key.upper()):
                found = hub.find("model", *spelled.split("/"))
                assert found is not None
                assert found.id == kept[key]
        assert sorted(r.id.lower() for r in hub.repos("model")) == sorted(kept)


# ---- former names ---------------------------------------------------------------------------------------------


def test_a_moved_repo_takes_everything_along(api: HfApi) -> None:
    api.create_repo("org/old", private=True)
    adds = [CommitOperationAdd("w.bin", b"\0w" * 100), CommitOperationAdd("t.txt", b"text")]
    api.create_commit("org/old", adds, commit_message="Add")
    api.create_tag("org/old", tag="v1")
    api.create_pull_request("org/old", "Propose")
    sha = api.model_info("org/old").sha
    api.move_repo("org/old", "other/new")
    info = api.model_info("other/new")
    assert (info.id, info.sha, info.private) == ("other/new", sha, True)
    assert [t.name for t in api.list_repo_refs("other/new").tags] == ["v1"]
    assert [d.title for d in api.get_repo_discussions("other/new")] == ["Propose"]
    assert [m.id for m in api.list_models()] == ["other/new"]
    assert Path(api.hf_hub_download("other/new", "w.bin")).read_bytes() == b"\0w" * 100


def test_the_former_name_leads_to_the_repo(api: HfApi) -> None:
    api.create_repo("org/First", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"\0x", path_in_repo="x.bin", repo_id="org/First", repo_type="dataset")
    api.move_repo("org/First", "org/second", repo_type="dataset")
    api.move_repo("org/second", "org/third", repo_type="dataset")
    for former in ("org/First", "ORG/first", "org/second", "org/third"):
        assert api.dataset_info(former).id == "org/third"
        assert Path(api.hf_hub_download(former, "x.bin", repo_type="dataset")).read_bytes() == b"\0x"
        api.upload_file(path_or_fileobj=former.encode(), path_in_repo="by", repo_id=former, repo_type="dataset")
    api.move_repo("org/third", "org/First", repo_type="dataset")
    assert api.dataset_info("org/second").id == api.dataset_info("org/First").id == "org/First"


def test_a_repo_can_be_spelled_anew(api: HfApi) -> None:
    api.create_repo("org/phi")
    api.move_repo("org/phi", "org/Phi")
    assert api.model_info("org/phi").id == "org/Phi"
    assert [m.id for m in api.list_models()] == ["org/Phi"]


def test_a_new_repo_takes_the_former_name(api: HfApi) -> None:
    api.create_repo("org/a")
    api.move_repo("org/a", "org/b")
    api.create_repo("org/a")
    assert api.model_info("org/a").id == "org/a"
    api.delete_repo("org/a")
    assert not api.repo_exists("org/a"), "the name leads again to a repo that it was taken from"
    api.move_repo("org/b", "org/c")
    api.delete_repo("org/c")
    api.create_repo("org/c")
    assert not api.repo_exists("org/b"), "a former name leads to another repo than the one that had it"


def test_a_move_that_cannot_be(hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    api.create_repo("org/a")
    api.create_repo("org/B")
    with pytest.raises(HfHubHTTPError, match="A model repository called org/B already exists") as error:
        api.move_repo("org/a", "org/b")
    assert status_of(error) == 409
    with pytest.raises(RepositoryNotFoundError):
        api.move_repo("org/none", "org/c")
    with pytest.raises(HfHubHTTPError, match="cannot be a repo name"):
        api.move_repo("org/a", "org/x--y")
    writer = client(Grant(name="writer", scope="write", namespaces=("org",)))
    for start, end in (("org/a", "other/a"), ("org/a", "reader/a")):
        with pytest.raises(HfHubHTTPError) as error:
            writer.move_repo(start, end)
        assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        client(STRANGER).move_repo("org/a", "stranger/a")
    assert status_of(error) == 403
    assert {m.id for m in api.list_models()} == {"org/a", "org/B"}


def test_a_former_name_tells_nobody_of_a_private_repo(hub: RunningHub, api: HfApi) -> None:
    api.create_repo("org/old")
    api.move_repo("org/old", "org/secret")
    api.update_repo_settings("org/secret", private=True)
    with pytest.raises(RepositoryNotFoundError) as error:
        HfApi(endpoint=hub.url, token=False).model_info("org/old")
    assert "secret" not in str(error.value)


def test_an_upload_goes_on_while_its_repo_is_moved(api: HfApi, ask: Ask, hub: RunningHub) -> None:
    api.create_repo("org/old")
    sha256 = "50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326"  # of b"w"
    wanted = {"operation": "upload", "objects": [{"oid": sha256, "size": 1}]}
    body = json.dumps(wanted).encode()
    answer = json.loads(ask("POST", "/org/old.git/info/lfs/objects/batch", body=body, token=hub.token).body)
    api.move_repo("org/old", "org/new")
    href = answer["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.url)
    assert ask("PUT", href, body=b"w").status == 200
    api.upload_file(path_or_fileobj=b"w", path_in_repo="w.bin", repo_id="org/old")
    assert check(hub.hub.folder) == []


@pytest.mark.server
def test_a_former_name_survives_a_restart(tmp_path: Path, unsynced: None) -> None:
    for first in (True, False):
        with serve(tmp_path / "hub") as hub:
            api = HfApi(endpoint=hub.url, token=hub.token)
            if first:
                api.create_repo("org/a")
                api.move_repo("org/a", "org/b")
            assert api.model_info("org/a").id == "org/b"


# ---- names without a namespace --------------------------------------------------------------------------------


def test_a_name_without_a_namespace_is_not_there(hub: RunningHub, api: HfApi) -> None:
    for one in (api, HfApi(endpoint=hub.url, token=False)):
        for kind in ("model", "dataset"):
            assert not one.repo_exists("gpt2", repo_type=kind)
            assert not one.revision_exists("gpt2", "main", repo_type=kind)
            assert not one.file_exists("gpt2", "config.json", repo_type=kind)
    calls: list[Callable[[], object]] = [
        lambda: api.model_info("gpt2"),
        lambda: api.model_info("gpt2", revision="refs/pr/1"),
        lambda: api.list_repo_files("gpt2"),
        lambda: list(api.list_repo_tree("gpt2", "a/b")),
        lambda: api.get_paths_info("gpt2", ["x"]),
        lambda: api.list_repo_commits("gpt2"),
        lambda: api.list_repo_refs("gpt2"),
        lambda: list(api.get_repo_discussions("gpt2")),
        lambda: api.create_branch("gpt2", branch="x"),
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="gpt2"),
        lambda: api.hf_hub_download("gpt2", "config.json"),
        lambda: api.delete_repo("gpt2"),
        lambda: api.auth_check("gpt2"),
    ]
    for call in calls:
        with pytest.raises(RepositoryNotFoundError):
            call()


def test_addresses_that_are_of_no_repo_stay_unknown(ask: Ask, api: HfApi, hub: RunningHub) -> None:
    api.create_repo("org/m")
    for path in ("/api/models/org/m/nonsense", "/api/nonsense/x", "/api/tasks"):
        answer = ask("GET", path, token=hub.token)
        assert (answer.status, answer.headers.get("x-error-code")) == (404, None)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/m", revision="none")
