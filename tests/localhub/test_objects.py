"""Ids are git's own: checked against git itself."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.localhub.objects import folder_ids, lfs_file, lfs_pointer, make_commit, make_tree, regular_file

FILES = {"README.md": b"# Hi\n", "a.b": b"1", "a/x": b"2", "a-b": b"3", "a/b/c": b"", "é/ü.txt": b"4", "z": b"\0\1"}


def git(folder: Path, *command: str, text: bytes = b"") -> str:
    who = {f"GIT_{r}_{k}": v for r in ("AUTHOR", "COMMITTER") for k, v in (("NAME", "me"), ("EMAIL", "me@localhost"))}
    dates = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **who, **dates}
    done = subprocess.run(["git", *command], cwd=folder, input=text, env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.process
def test_ids_are_those_of_git(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
        assert regular_file(path, content).blob_id == git(tmp_path, "hash-object", path)
    git(tmp_path, "add", ".")
    ids = folder_ids(make_tree(regular_file(p, c) for p, c in FILES.items()))
    assert ids[""] == git(tmp_path, "write-tree")
    assert ids["a/b"] == git(tmp_path, "rev-parse", f"{ids['']}:a/b")
    first = make_commit(tree_id=ids[""], parents=(), author="me", date=1_700_000_000, title="One", description="")
    assert first.id == git(tmp_path, "commit-tree", ids[""], text=b"One\n")
    second = make_commit(
        tree_id=ids[""], parents=(first.id,), author="me", date=1_700_000_000, title="Two", description="Why\nand how"
    )
    made = git(tmp_path, "commit-tree", ids[""], "-p", first.id, text=b"Two\n\nWhy\nand how\n")
    assert second.id == made


@pytest.mark.process
def test_an_lfs_file_has_the_id_of_its_pointer(tmp_path: Path) -> None:
    pointer = lfs_pointer("ab" * 32, 12345)
    assert pointer.splitlines()[1:] == [b"oid sha256:" + b"ab" * 32, b"size 12345"]
    git(tmp_path, "init", "-q")
    expected = git(tmp_path, "hash-object", "--stdin", text=pointer)
    assert lfs_file("w.bin", sha256="ab" * 32, size=12345).blob_id == expected


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-c.\-]{1,3}(/[a-c.\-]{1,3}){0,2}", fullmatch=True), st.binary(max_size=3)))
def test_a_tree_does_not_depend_on_the_order_of_its_files(files: dict[str, bytes]) -> None:
    entries = [regular_file(p, c) for p, c in files.items()]
    assert folder_ids(make_tree(entries)) == folder_ids(make_tree(reversed(entries)))


def test_the_empty_tree() -> None:
    assert folder_ids(make_tree([]))[""] == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
