"""Repos through the Hub's own client: making, finding, describing and deleting them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bot.localhub import Grant, RunningHub, ServerLimits, serve
from tests.localhub.conftest import Ask

CARD = b"""---
license: mit
language: [en, no]
base_model: microsoft/Phi-4-mini-instruct
base_model_relation: quantized
library_name: gguf
pipeline_tag: text-generation
tags: [phi]
---
# A card
"""
READER = Grant(name="reader", scope="read", namespaces=("org",))
WRITER = Grant(name="writer", scope="write", namespaces=("org",))
STRANGER = Grant(name="stranger", scope="write", namespaces=())


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def safetensors(*tensors: tuple[str, list[int]]) -> bytes:
    header = json.dumps(
        {f"t{i}": {"dtype": d, "shape": s, "data_offsets": [0, 0]} for i, (d, s) in enumerate(tensors)}
        | {"__metadata__": {"format": "pt"}}
    ).encode()
    return struct.pack("<Q", len(header)) + header


def test_create_is_done_once(api: HfApi) -> None:
    first = api.create_repo("org/m")
    assert (first.repo_id, first.repo_type) == ("org/m", "model")
    assert api.create_repo("org/m", exist_ok=True) == first
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("org/m")
    assert status_of(error) == 409


def test_a_new_repo_has_a_first_commit(api: HfApi) -> None:
    api.create_repo("org/m")
    assert api.list_repo_files("org/m") == [".gitattributes"]
    assert [c.title for c in api.list_repo_commits("org/m")] == ["initial commit"]


def test_models_and_datasets_are_apart(api: HfApi) -> None:
    api.create_repo("org/same")
    made = api.create_repo("org/same", repo_type="dataset")
    assert made.url.endswith("/datasets/org/same")
    api.upload_file(path_or_fileobj=b"a,b\n", path_in_repo="x.csv", repo_id="org/same", repo_type="dataset")
    assert "x.csv" in api.list_repo_files("org/same", repo_type="dataset")
    assert "x.csv" not in api.list_repo_files("org/same")
    assert [d.id for d in api.list_datasets()] == ["org/same"]


@pytest.mark.parametrize("repo_id", ["org/..", "org/a--b", "api/m", "org/m.git", "-/m", "datasets/m"])
def test_strange_names_are_refused(hub: RunningHub, ask: Ask, repo_id: str) -> None:
    namespace, name = repo_id.split("/")
    wanted = json.dumps({"name": name, "organization": namespace}).encode()
    answer = ask("POST", "/api/repos/create", body=wanted, token=hub.token)
    assert answer.status == 400


def test_deleting_needs_a_repo(api: HfApi) -> None:
    api.create_repo("org/m")
    api.delete_repo("org/m")
    assert not api.repo_exists("org/m")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("org/m")
    api.create_repo("org/m")
    assert api.list_repo_files("org/m") == [".gitattributes"]


def test_the_data_of_a_model(api: HfApi) -> None:
    api.create_repo("org/m")
    config = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 8}
    weights = safetensors(("BF16", [1000, 3]), ("F32", [7]), ("BF16", [2]))
    commit = api.create_commit(
        "org/m",
        [
            CommitOperationAdd("README.md", CARD),
            CommitOperationAdd("config.json", json.dumps(config).encode()),
            CommitOperationAdd("model.safetensors", weights),
        ],
        commit_message="Release",
    )
    info = api.model_info("org/m", files_metadata=True)
    assert (info.id, info.author, info.sha, info.private, info.gated) == ("org/m", "org", commit.oid, False, False)
    assert (info.downloads, info.likes, info.disabled) == (0, 0, False)
    assert (info.library_name, info.pipeline_tag) == ("gguf", "text-generation")
    assert info.config == {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    assert info.card_data is not None
    assert info.card_data.language == ["en", "no"]
    assert info.card_data.get("base_model_relation") == "quantized"
    assert info.tags == [
        "gguf", "safetensors", "phi3", "text-generation", "phi", "en", "no", "base_model:microsoft/Phi-4-mini-instruct",
        "base_model:quantized:microsoft/Phi-4-mini-instruct", "license:mit",
    ]  # fmt: skip
    assert info.safetensors == {"parameters": {"BF16": 3002, "F32": 7}, "total": 3009}
    assert info.created_at is not None
    assert info.last_modified is not None
    assert info.siblings is not None
    held = {s.rfilename: s for s in info.siblings}["model.safetensors"]
    assert held.size == len(weights)
    assert held.lfs is not None
    assert held.lfs.size == len(weights)


@pytest.mark.parametrize(
    ("head", "files", "relation"),
    [
        ("", {}, "finetune"),
        ("library_name: peft\n", {}, "adapter"),
        ("", {"adapter_config.json": b"{}"}, "adapter"),
        ("", {"m.gguf": b"GGUF"}, "quantized"),
        ("", {"config.json": b'{"quantization_config": {"quant_method": "awq"}}'}, "quantized"),
        ("base_model_relation: merge\n", {"m.gguf": b"GGUF"}, "merge"),
    ],
)
def test_the_relation_to_a_base_model_is_told_by_the_card_or_the_files(
    api: HfApi, head: str, files: dict[str, bytes], relation: str
) -> None:
    api.create_repo("org/m")
    card = f"---\nbase_model: org/base\n{head}---\n".encode()
    adds = [CommitOperationAdd(path, content) for path, content in ({"README.md": card} | files).items()]
    api.create_commit("org/m", adds, commit_message="Release")
    assert [m.id for m in api.list_models(filter=f"base_model:{relation}:org/base")] == ["org/m"]
    assert f"base_model:{relation}:org/base" in (api.model_info("org/m").tags or [])


def test_two_base_models_are_a_merge(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"---\nbase_model: [a/b, c/d]\n---\n", path_in_repo="README.md", repo_id="org/m")
    assert [m.id for m in api.list_models(filter="base_model:merge:c/d")] == ["org/m"]
    assert [m.id for m in api.list_models(filter="base_model:finetune:c/d")] == []


def test_lists_begin_with_what_is_downloaded_most(api: HfApi) -> None:
    for name, times in (("a", 1), ("b", 3), ("c", 2)):
        api.create_repo(f"org/{name}")
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=f"org/{name}")
        for _ in range(times):
            api.hf_hub_download(f"org/{name}", "config.json", force_download=True)
            api.hf_hub_download(f"org/{name}", ".gitattributes", force_download=True)
    assert [(m.id, m.downloads) for m in api.list_models(sort="downloads", limit=2)] == [("org/b", 3), ("org/c", 2)]
    assert api.model_info("org/a").downloads == 1


@pytest.mark.parametrize(
    ("said", "shown", "tags"),
    [
        ({"bits": 4, "quant_method": "awq", "zero_point": True}, {"bits": 4, "quant_method": "awq"}, ["4-bit", "awq"]),
        (
            {"load_in_4bit": False, "load_in_8bit": True, "quant_method": "bitsandbytes"},
            {"load_in_4bit": False, "load_in_8bit": True, "quant_method": "bitsandbytes"},
            ["8-bit", "bitsandbytes"],
        ),
        ({"quant_method": ["x"], "bits": "four"}, {"bits": "four"}, []),
    ],
)
def test_how_a_model_is_quantized_is_told_by_its_config(
    api: HfApi, said: dict[str, Any], shown: dict[str, Any], tags: list[str]
) -> None:
    api.create_repo("org/m")
    config = json.dumps({"model_type": "phi3", "quantization_config": said}).encode()
    api.upload_file(path_or_fileobj=config, path_in_repo="config.json", repo_id="org/m")
    info = api.model_info("org/m")
    assert info.config == {"model_type": "phi3", "quantization_config": shown}
    assert info.tags == ["phi3", *tags]


@pytest.mark.parametrize(
    "header",
    [b"", b"\xff" * 8, b"\2\0\0\0\0\0\0\0[]", safetensors(("BF16", [2**63] * 9)), safetensors(("x" * 99, [1]))],
)
def test_strange_weights_are_not_counted(api: HfApi, header: bytes) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=header, path_in_repo="model.safetensors", repo_id="org/m")
    assert api.model_info("org/m").safetensors is None


def test_expand_gives_the_requested_fields(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id="org/m")
    (listed,) = api.list_models(author="org", expand=["cardData", "sha", "tags", "lastModified"])
    shown = api.model_info("org/m", expand=["cardData", "sha", "tags", "lastModified"])
    for info in (listed, shown):
        assert info.sha == api.model_info("org/m").sha
        assert info.card_data is not None
        assert info.card_data.license == "mit"
        assert "license:mit" in (info.tags or [])
        assert info.last_modified is not None
        assert info.downloads is None
    bases: Any = api.model_info("org/m", expand=["baseModels"]).base_models
    assert bases == {"relation": "quantized", "models": [{"id": "microsoft/Phi-4-mini-instruct"}]}
    with pytest.raises(HfHubHTTPError, match="resourceGroup"):
        api.model_info("org/m", expand=["resourceGroup"])


def test_finding_models(api: HfApi) -> None:
    for repo in ("org/Phi-4", "org/Phi-3.5", "other/phi-4"):
        api.create_repo(repo)
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id="org/Phi-3.5")
    assert {m.id for m in api.list_models(author="org")} == {"org/Phi-4", "org/Phi-3.5"}
    assert {m.id for m in api.list_models(search="PHI-4")} == {"org/Phi-4", "other/phi-4"}
    assert [m.id for m in api.list_models(filter="license:mit")] == ["org/Phi-3.5"]
    assert [m.id for m in api.list_models(pipeline_tag="text-generation")] == ["org/Phi-3.5"]
    assert len(list(api.list_models(sort="created_at", limit=2))) == 2
    full = next(iter(api.list_models(author="other", full=True)))
    assert full.siblings is not None
    assert full.sha is not None
    with pytest.raises(HfHubHTTPError, match="cannot filter by num_parameters"):
        list(api.list_models(num_parameters="min:6B"))


@pytest.mark.server
def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    with serve(tmp_path / "hub", limits=ServerLimits(page=3)) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        for i in range(8):
            api.create_repo(f"org/m{i}")
        assert {m.id for m in api.list_models()} == {f"org/m{i}" for i in range(8)}
        api.create_commit(
            "org/m0", [CommitOperationAdd(f"d/{i}.txt", b"x") for i in range(7)], commit_message="Many files"
        )
        assert len(list(api.list_repo_tree("org/m0", recursive=True))) == 9
        for i in range(7):
            api.upload_file(path_or_fileobj=f"{i}".encode(), path_in_repo="n.txt", repo_id="org/m0")
        assert len(api.list_repo_commits("org/m0")) == 9


def test_trees(api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_commit(
        "org/m",
        [CommitOperationAdd("a/b/deep.txt", b"deep"), CommitOperationAdd("top.txt", b"top")],
        commit_message="First",
    )
    api.upload_file(path_or_fileobj=b"new", path_in_repo="top.txt", repo_id="org/m", commit_message="Second")
    assert [f.path for f in api.list_repo_tree("org/m")] == [".gitattributes", "a", "top.txt"]
    assert [f.path for f in api.list_repo_tree("org/m", "a", recursive=True)] == ["a/b", "a/b/deep.txt"]
    touched = {f.path: f.last_commit for f in api.list_repo_tree("org/m", recursive=True, expand=True)}
    assert {p: c.title for p, c in touched.items() if c} == {
        ".gitattributes": "initial commit",
        "a": "First",
        "a/b": "First",
        "a/b/deep.txt": "First",
        "top.txt": "Second",
    }
    found = api.get_paths_info("org/m", ["top.txt", "a", "missing"], expand=True)
    assert [(f.path, f.last_commit.title if f.last_commit else None) for f in found] == [
        ("top.txt", "Second"),
        ("a", "First"),
    ]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("org/m", "no/such"))
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree("org/m", revision="no-such"))


def test_a_stale_parent_is_refused(api: HfApi) -> None:
    api.create_repo("org/m")
    start = api.model_info("org/m").sha
    landed = api.create_commit("org/m", [CommitOperationAdd("a", b"1")], commit_message="1", parent_commit=start)
    with pytest.raises(HfHubHTTPError) as error:
        api.create_commit("org/m", [CommitOperationAdd("b", b"2")], commit_message="2", parent_commit=start)
    assert status_of(error) == 412
    assert api.model_info("org/m").sha == landed.oid
    assert not api.file_exists("org/m", "b")


def test_deleting_and_moving_files(api: HfApi) -> None:
    api.create_repo("org/m")
    adds = [CommitOperationAdd(p, p.encode()) for p in ("keep", "gone", "dir/a", "dir/b", "move.bin")]
    api.create_commit("org/m", adds, commit_message="Add")
    api.create_commit(
        "org/m",
        [
            CommitOperationDelete("gone"),
            CommitOperationDelete("dir/"),
            CommitOperationCopy("move.bin", "moved.bin"),
            CommitOperationDelete("move.bin"),
        ],
        commit_message="Clean up",
    )
    assert api.list_repo_files("org/m") == [".gitattributes", "keep", "moved.bin"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("gone", "org/m")


def test_a_name_is_a_file_or_a_folder(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id="org/m")
    with pytest.raises(HfHubHTTPError, match="a cannot be a file and the folder of a/b"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a/b", repo_id="org/m")


def test_unchanged_files_make_no_commit(api: HfApi) -> None:
    api.create_repo("org/m")
    once = api.create_commit(
        "org/m", [CommitOperationAdd("w.bin", b"\0w"), CommitOperationAdd("t", b"t")], commit_message="1"
    )
    again = api.create_commit(
        "org/m", [CommitOperationAdd("w.bin", b"\0w"), CommitOperationAdd("t", b"t")], commit_message="2"
    )
    assert again.oid == once.oid
    assert len(api.list_repo_commits("org/m")) == 2


def test_branches_and_tags(api: HfApi) -> None:
    api.create_repo("org/m")
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="v", repo_id="org/m").oid
    api.create_tag("org/m", tag="v1.0", tag_message="One")
    api.create_branch("org/m", branch="next/try", revision=first)
    api.upload_file(path_or_fileobj=b"2", path_in_repo="v", repo_id="org/m", revision="next/try")
    refs = api.list_repo_refs("org/m")
    assert {b.name for b in refs.branches} == {"main", "next/try"}
    assert [(t.name, t.ref, t.target_commit) for t in refs.tags] == [("v1.0", "refs/tags/v1.0", first)]
    assert api.model_info("org/m", revision="v1.0").sha == api.model_info("org/m", revision=first).sha == first
    assert api.model_info("org/m", revision="refs/heads/next/try").sha != first
    with pytest.raises(HfHubHTTPError) as error:
        api.create_tag("org/m", tag="v1.0")
    assert status_of(error) == 409
    api.create_branch("org/m", branch="next/try", exist_ok=True)
    with pytest.raises(HfHubHTTPError, match="is not a branch"):
        api.upload_file(path_or_fileobj=b"3", path_in_repo="v", repo_id="org/m", revision="v1.0")
    api.delete_tag("org/m", tag="v1.0")
    api.delete_branch("org/m", branch="next/try")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag("org/m", tag="v1.0")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/m", revision="next/try")


def test_squashing_history(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="org/m")
    api.super_squash_history("org/m", commit_message="One")
    assert [c.title for c in api.list_repo_commits("org/m")] == ["One"]
    assert "a" in api.list_repo_files("org/m")


def test_formatted_history_is_escaped(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="org/m", commit_message="<b>x</b>")
    newest = api.list_repo_commits("org/m", formatted=True)[0]
    assert (newest.title, newest.formatted_title) == ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;")
    assert newest.authors == ["local"]


def test_tokens_and_their_rights(hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    reader, writer, stranger = client(READER), client(WRITER), client(STRANGER)
    nobody = HfApi(endpoint=hub.url, token=False)
    writer.create_repo("org/private", private=True)
    writer.create_repo("own")
    assert [m.id for m in api.list_models(author="writer")] == ["writer/own"]
    assert reader.model_info("org/private").private
    for other in (stranger, nobody):
        with pytest.raises(RepositoryNotFoundError):
            other.model_info("org/private")
        assert "org/private" not in {m.id for m in other.list_models()}
    for other, repo in ((reader, "org/private"), (stranger, "writer/own")):
        with pytest.raises(HfHubHTTPError) as error:
            other.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo)
        assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        stranger.create_repo("org/mine")
    assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token="hub_wrong").model_info("writer/own")
    with pytest.raises(HfHubHTTPError, match="401"):
        nobody.create_repo("org/x")


def test_whoami(client: Callable[[Grant], HfApi]) -> None:
    found = client(WRITER).whoami()
    assert (found["name"], found["orgs"][0]["name"], found["auth"]["accessToken"]["role"]) == ("writer", "org", "write")


def test_gated_repos(hub: RunningHub, api: HfApi, client: Callable[[Grant], HfApi]) -> None:
    stranger, nobody = client(STRANGER), HfApi(endpoint=hub.url, token=False)
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="org/m")
    api.update_repo_settings("org/m", gated="manual")
    assert stranger.model_info("org/m").gated == "manual"
    api.create_commit("org/m", [CommitOperationAdd("x", b"y")], commit_message="Change", create_pr=True)
    for other in (stranger, nobody):
        with pytest.raises(GatedRepoError):
            other.get_discussion_details("org/m", 1)
        with pytest.raises(GatedRepoError):
            other.hf_hub_download("org/m", "x")
        with pytest.raises(GatedRepoError):
            other.auth_check("org/m")
    api.grant_access("org/m", "stranger")
    stranger.auth_check("org/m")
    api.update_repo_settings("org/m", gated=False, private=True)
    assert (api.model_info("org/m").gated, api.model_info("org/m").private) == (False, True)


def test_missing_things_are_told_apart(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/none")
    api.create_repo("org/m")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("org/m", "x", revision="none")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("org/m", "x")


@pytest.mark.parametrize(
    "revision",
    ["..", ".", "%2e%2e", "%2e%2e%2fpr", "main%2f..", "refs%2fheads%2f..", "refs%2fpr%2f..", "a" * 300, "%C3%A9"],
)
def test_strange_revisions_are_not_found(api: HfApi, ask: Ask, revision: str) -> None:
    api.create_repo("org/m")
    answer = ask("GET", f"/api/models/org/m/revision/{revision}")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_a_card_with_a_broken_head_is_refused(api: HfApi) -> None:
    api.create_repo("org/m")
    for head in ("a: [", "- just\n- a list", "license: {a: b}", "base_model: 'not an id'"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.upload_file(path_or_fileobj=f"---\n{head}\n---\n".encode(), path_in_repo="README.md", repo_id="org/m")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(path_or_fileobj=b"# No head", path_in_repo="README.md", repo_id="org/m")
