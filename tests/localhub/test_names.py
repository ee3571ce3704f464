"""No name leads out of its folder."""

from http import HTTPStatus
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub import names
from bot.localhub.refused import RefusedError

HOSTILE = [
    "", ".", "..", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", "/", "a\\b", "..\\x", "C:\\x", "a\0b",
    "a\nb", "a\x1b[31m", "a\x7f", "a\u2028b", ".git/config", "a/.GIT/hooks/x", "x" * 256, "/".join("a" * 600),
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(RefusedError) as error:
        names.check_path(path)
    assert error.value.status == HTTPStatus.UNPROCESSABLE_ENTITY  # as the real Hub


@pytest.mark.parametrize("path", ["README.md", "a/b/c.json", ".gitattributes", "a b/ü.txt", "…", "a..b", "~", "-rf"])
def test_plain_paths_are_taken(path: str) -> None:
    assert names.check_path(path) == path


@given(st.text())
def test_a_path_is_taken_only_when_it_stays_inside(path: str) -> None:
    try:
        names.check_path(path)
    except RefusedError:
        return
    parts = PurePosixPath("/repo", path).parts
    assert parts[:2] == ("/", "repo")
    assert "/".join(parts[2:]) == path
    assert not {"..", "."} & set(parts)
    assert path.isprintable() or not any(ord(c) < 32 for c in path)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_ref_is_one_plain_file(name: str) -> None:
    file = names.to_file_name(name)
    assert "/" not in file
    assert "." not in file
    assert file.isascii()
    assert names.from_file_name(file) == name


@given(st.text())
def test_a_repo_name_is_one_plain_folder(name: str) -> None:
    for check in (names.check_repo_name, names.check_namespace):
        try:
            check(name)
        except RefusedError:
            continue
        assert PurePosixPath("/x", name).parts == ("/", "x", name)
        assert name not in (".", "..")
        assert name.isascii()


@pytest.mark.parametrize(
    "name",
    [
        "a..b/../c",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "@",
        "a@{1}",
        ".a",
        "a/.b",
        "a.lock",
        "refs/x",
        "f" * 40,
    ],
)
def test_names_that_git_refuses_are_not_branches(name: str) -> None:
    with pytest.raises(RefusedError):
        names.check_ref_name(name)


@pytest.mark.parametrize("name", ["main", "v1.0", "next/try", "pr/1", "ü"])
def test_names_of_branches(name: str) -> None:
    assert names.check_ref_name(name) == name
