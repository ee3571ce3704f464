"""The folder: whose it is, what is secret in it, and what is checked."""

import os
import stat
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.errors import LocalHubError
from bot.localhub import Grant, LocalHub, RunningHub, check, make_token, serve


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_the_owner_alone(hub: RunningHub) -> None:
    folder = hub.hub.folder
    assert mode(folder) == 0o700
    for name in ("token", "tokens.json", "secret"):
        assert mode(folder / name) == 0o600


def test_tokens_are_kept_as_hashes(hub: RunningHub) -> None:
    token = make_token(hub.hub.folder, "ci", "read", ["org"])
    assert token not in (hub.hub.folder / "tokens.json").read_text()
    assert hub.token not in (hub.hub.folder / "tokens.json").read_text()
    whoami = HfApi(endpoint=hub.url, token=token).whoami()
    assert (whoami["name"], whoami["auth"]["accessToken"]["role"]) == ("ci", "read")


def test_the_owners_token_stays(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub") as first:
        token = first.token_file.read_text()
    with LocalHub(tmp_path / "hub") as second:
        assert second.token_file.read_text() == token
        assert second.tokens.find(token) == Grant(name="local", scope="write", namespaces=("*",))


@pytest.mark.server
def test_tokens_of_one_process(tmp_path: Path) -> None:
    grant = Grant(name="test", scope="write", namespaces=("org",))
    with serve(tmp_path / "hub", tokens={"given": grant}) as hub:
        HfApi(endpoint=hub.url, token="given").create_repo("org/m")
    with LocalHub(tmp_path / "hub") as again:
        assert again.tokens.find("given") is None


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LocalHubError, match="holds other things"):
        LocalHub(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalHubError, match="file"):
        LocalHub(tmp_path / "file")


def test_a_folder_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hub.json").write_text('{"format": 99}')
    with pytest.raises(LocalHubError, match="another version"):
        LocalHub(tmp_path)


@pytest.mark.server
def test_repos_survive_a_restart(tmp_path: Path) -> None:
    with serve(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo("org/m")
        made = api.create_commit("org/m", [CommitOperationAdd("w.bin", b"\0" * 1000)], commit_message="Add")
    with serve(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        assert api.model_info("org/m").sha == made.oid
        assert Path(api.hf_hub_download("org/m", "w.bin")).read_bytes() == b"\0" * 1000


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with a repo in it that nobody serves."""
    with serve(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)
        api.create_repo("org/m")
        adds = [CommitOperationAdd("w.bin", b"\0" * 1000), CommitOperationAdd("t.txt", b"text")]
        api.create_commit("org/m", adds, commit_message="Add")
        api.create_pull_request("org/m", "Draft")
    return tmp_path / "hub"


@pytest.mark.server
def test_a_whole_folder_passes(filled: Path) -> None:
    assert check(filled) == []


@pytest.mark.server
def test_each_kind_of_damage_is_found(filled: Path) -> None:
    repo = filled / "repos/models/org/m"
    main = repo / "refs/heads/main"
    commit = repo / "commits" / f"{main.read_text()}.json"
    blob = next(f for f in (filled / "blobs").glob("*/*") if f.stat().st_size == 1000)
    marker = repo / "lfs" / blob.name

    def damage(path: Path, content: bytes | None) -> list[str]:
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        found = check(filled)
        path.unlink(missing_ok=True)
        path.write_bytes(before)
        return found

    assert any("its content has sha256" in line for line in damage(blob, b"\1" * 1000))
    assert any("its blob is lost" in line for line in damage(blob, None))
    assert any("is lost" in line for line in damage(blob, None))
    assert any("was altered" in line for line in damage(commit, commit.read_bytes().replace(b'"Add"', b'"Bad"')))
    assert any("has no commit" in line for line in damage(commit, None))
    assert damage(commit, commit.read_bytes()[:-10])
    assert any("has no commit" in line for line in damage(main, b"0" * 40))
    assert any("pull request 1 has no commits" in line for line in damage(repo / "refs/pr/1", None))
    assert any("No such file" in line for line in damage(next((repo / "trees").iterdir()), None))
    assert any("does not hold its LFS content" in line for line in damage(marker, None))
    assert damage(marker, b"") == []
    assert check(filled) == []


def test_a_dead_owners_scratch_is_removed_and_a_living_ones_kept(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub") as living:
        dead = tmp_path / "hub/tmp/dead"
        dead.mkdir()
        (dead / "half").write_bytes(b"x" * 1000)
        with LocalHub(tmp_path / "hub") as other:
            assert {living.scratch.folder, other.scratch.folder} == {f for f in dead.parent.iterdir() if f.is_dir()}
    assert [f.name for f in (tmp_path / "hub/tmp").iterdir()] == ["lock"]


def test_uploads_that_were_given_up_are_removed(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub") as hub:
        old, new = (hub.blobs.uploads / hub.blobs.begin_parts(1000) for _ in range(2))
        os.utime(old, (time.time() - 2 * 86400,) * 2)
    with LocalHub(tmp_path / "hub"):
        assert not old.exists()
        assert new.exists()
