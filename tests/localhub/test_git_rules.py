"""Which file is LFS's and which is left out: held against git itself, and seen through the real client."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bot.localhub.git_rules import is_ignored, is_lfs

PATHS = [
    "ab", "a.b", "a b", ".a", "c", "a/a", "b/a", "a/b/a", "a/b/b", "a/b/ab", "b/a/b/a", "ab/a.b", "a/.a",
    "-a", "!a", "#a", "a]b", "a[b", "a\\b", "a*b",
]  # fmt: skip
PIECES = [
    "a",
    "b",
    "c",
    "*",
    "**",
    "?",
    "/",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-b]",
    "[]a]",
    ".",
    " ",
    "\\",
    "!",
    "#",
    "-",
    "[",
]
PATTERNS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
FOLDERS = ["", "a", "a/b", "b"]
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def work_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repo with a file or a folder at each path."""
    root = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def asked(root: Path, *command: str) -> list[str]:
    names = "".join(f"{p}\0" for p in PATHS)
    isolated = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(root),
        "PATH": "/usr/bin:/bin",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(["git", "-C", root, *command], input=names, capture_output=True, text=True, env=isolated)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.split("\0")[:-1]


@pytest.fixture
def written(work_tree: Path) -> Iterator[Path]:
    """The work tree, cleaned of what an example wrote."""
    yield work_tree
    clean(work_tree)


def clean(root: Path) -> None:
    for name in (".gitignore", ".gitattributes"):
        for file in root.rglob(name):
            file.unlink()


def write(root: Path, name: str, files: dict[str, str]) -> None:
    clean(root)
    for folder, text in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(text)


IGNORES = st.lists(
    st.tuples(st.sampled_from(["", "!", "/"]), PATTERNS, st.sampled_from(["", "/", " ", "\r"])), max_size=4
)


@pytest.mark.process
@settings(max_examples=60, suppress_health_check=SLOW)
@example({"": "[/[ab]\n"})
@example({"": "a/*\n!a/b\n"})
@example({"": "*\n!*/\n!a\n"})
@example({"": "a/**\n", "a": "!b\n"})
@example({"": "**/b\n/a/**/b\nb/\n"})
@example({"": "\\#a\n\\!a\na\\ b\n"})
@given(st.dictionaries(st.sampled_from(FOLDERS), IGNORES.map(lambda rules: "".join("".join(r) + "\n" for r in rules))))
def test_git_leaves_out_the_same_files(written: Path, files: dict[str, str]) -> None:
    write(written, ".gitignore", files)
    expected = set(asked(written, "check-ignore", "--no-index", "--stdin", "-z"))
    assert {p for p in PATHS if is_ignored(files, p)} == expected, files


SAYS = ["filter=lfs", "filter=lfs -text", "-filter", "!filter", "filter", "filter=other", "text", "big", "binary"]
RULES = st.lists(st.tuples(PATTERNS, st.sampled_from([" ", "\t", "/ "]), st.sampled_from(SAYS)), max_size=4)


@pytest.mark.process
@settings(max_examples=60, suppress_health_check=SLOW)
@example({"": "[attr]big filter=lfs\n* big\na/b -filter\n"})
@example({"": '"a b" filter=lfs\n"\\141" filter=lfs\n# a filter=lfs\n'})
@given(st.dictionaries(st.sampled_from(FOLDERS), RULES.map(lambda rules: "".join("".join(r) + "\n" for r in rules))))
def test_git_gives_the_same_files_to_lfs(written: Path, files: dict[str, str]) -> None:
    write(written, ".gitattributes", files)
    told = asked(written, "check-attr", "--stdin", "-z", "filter")
    expected = {path for path, value in zip(told[::3], told[2::3], strict=True) if value == "lfs"}
    assert {p for p in PATHS if is_lfs(files, p)} == expected, files


@pytest.mark.parametrize("pattern", ["*a" * 500 + "b", "**/a/" * 500 + "b", "[a-z]*" * 500, "?*" * 800 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    started = time.process_time()
    is_ignored({"": pattern + "\n"}, "a" * 250)
    is_ignored({"": pattern + "\n"}, "/".join("a" * 500))
    assert time.process_time() - started < 2


# ---- through the client ---------------------------------------------------------------------------------------


def lfs_files(api: HfApi) -> set[str]:
    return {s.rfilename for s in api.model_info("org/m", files_metadata=True).siblings or [] if s.lfs}


def add(api: HfApi, **files: bytes) -> None:
    named = {name.replace("__", "/").replace("_", "."): content for name, content in files.items()}
    api.create_commit("org/m", [CommitOperationAdd(p, c) for p, c in named.items()], commit_message="Add")


def test_the_attributes_of_a_repo_decide_which_files_lfs_holds(api: HfApi) -> None:
    api.create_repo("org/m")
    add(api, a_png=b"text", a_bin=b"text", a_md=b"text", raw_md=b"\0")
    assert lfs_files(api) == {"a.bin", "raw.md"}
    api.upload_file(path_or_fileobj=b"*.png filter=lfs -text\n", path_in_repo=".gitattributes", repo_id="org/m")
    api.upload_file(
        path_or_fileobj=b"b.png -filter\n*.md filter=lfs\n", path_in_repo="d/.gitattributes", repo_id="org/m"
    )
    add(api, b_png=b"1", b_bin=b"2", d__b_png=b"3", d__c_png=b"4", d__c_md=b"5", c_md=b"6", new_bin=b"\0")
    assert lfs_files(api) == {"a.bin", "raw.md", "b.png", "d/c.png", "d/c.md", "new.bin"}


def test_the_rules_are_those_of_the_revision(api: HfApi) -> None:
    api.create_repo("org/m")
    api.create_branch("org/m", branch="next")
    for name, text in ((".gitattributes", b"*.png filter=lfs\n"), (".gitignore", b"*.log\n")):
        api.upload_file(path_or_fileobj=text, path_in_repo=name, repo_id="org/m", revision="next")
    adds = [CommitOperationAdd("a.png", b"x"), CommitOperationAdd("a.log", b"x")]
    api.create_commit("org/m", adds, commit_message="Add")
    assert (lfs_files(api), "a.log" in api.list_repo_files("org/m")) == (set(), True)
    adds = [CommitOperationAdd("a.png", b"x"), CommitOperationAdd("a.log", b"x")]
    api.create_commit("org/m", adds, commit_message="Add", revision="next")
    (held,) = api.get_paths_info("org/m", ["a.png"], revision="next")
    assert held.lfs is not None  # type: ignore[union-attr]
    assert "a.log" not in api.list_repo_files("org/m", revision="next")


def test_ignored_files_are_left_out(api: HfApi, tmp_path: Path) -> None:
    api.create_repo("org/m")
    folder = tmp_path / "sent"
    for name in ("keep.txt", "notes.log", "keep.log", "build/x", "build/sub/y", "d/tmp", "d/w.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    api.upload_file(path_or_fileobj=b"*.log\n!keep.log\nbuild/\n", path_in_repo=".gitignore", repo_id="org/m")
    api.upload_file(path_or_fileobj=b"/tmp\n*.bin\n", path_in_repo="d/.gitignore", repo_id="org/m")
    api.upload_folder(folder_path=folder, repo_id="org/m")
    rest = {".gitattributes", ".gitignore", "d/.gitignore", "keep.txt", "keep.log"}
    assert set(api.list_repo_files("org/m")) == rest
    (folder / ".gitignore").write_text("d\n*.txt\n")
    api.upload_folder(folder_path=folder, repo_id="org/m")
    sent = {"notes.log", "build/x", "build/sub/y"}
    assert set(api.list_repo_files("org/m")) == rest | sent, "the .gitignore of the commit itself goes first"


def test_rules_that_are_too_long_say_nothing(api: HfApi) -> None:
    api.create_repo("org/m")
    api.upload_file(path_or_fileobj=b"*\n" * 200_000, path_in_repo=".gitignore", repo_id="org/m")
    add(api, a_txt=b"x")
    assert "a.txt" in api.list_repo_files("org/m")
