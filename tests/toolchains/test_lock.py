"""Locks: complete, exact, hashed, and in step with what they are made from."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from bot import toolchains
from bot.toolchains import pytorch, relock
from bot.toolchains.lock import canonical, read, read_head
from tests.toolchains.index import HEAD

SHA256 = "0" * 64
PIN = f"first==1.0 \\\n    --hash=sha256:{SHA256}\n"
GGUF = toolchains.lock_file("gguf").read_text()
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tiny.txt"


def test_every_toolchain_is_locked() -> None:
    assert toolchains.names() == ["gguf", "mlx", "onnx", "openvino", "plots", "reference", "torch"]


@pytest.mark.parametrize("name", toolchains.names())
def test_every_requirement_of_a_lock_is_pinned_and_hashed(name: str) -> None:
    lock = read(toolchains.lock_file(name))  # which refuses any that is not
    packages = [r.name for r in lock.requirements]
    assert len(packages) > (10 if name == "plots" else 30)
    assert not [p for p in packages if p.startswith(("nvidia", "cuda", "triton", "torchvision"))]
    assert {name for name in packages if packages.count(name) > 1} <= {"torch"}  # on Linux, and elsewhere


@pytest.mark.parametrize("name", toolchains.names())
def test_a_lock_has_the_versions_of_its_source(name: str) -> None:
    source = toolchains.source_file(name).read_text()
    lock = read(toolchains.lock_file(name))
    asked = dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;]+)", source))
    locked = {r.name: r.version.removesuffix("+cpu") for r in lock.requirements}
    assert asked
    assert asked.items() <= locked.items()
    head = read_head(toolchains.lock_file(name).read_text())
    assert read_head(source) == {k: v for k, v in head.items() if k != "platforms"}


@pytest.mark.parametrize("name", toolchains.names())
def test_a_lock_covers_linux_and_macs_with_every_python_from_3_11(name: str) -> None:
    platforms = read(toolchains.lock_file(name)).platforms
    for platform in ("linux-x86_64", "linux-aarch64", "macos-arm64"):
        assert {"3.11", "3.12", "3.13"} <= set(platforms[platform].pythons)


def test_the_bots_own_environment_is_pinned_hashed_and_in_step_with_pyproject(file: Path) -> None:
    file.write_text(HEAD.format(disk=1, imports="") + (ROOT / "requirements.txt").read_text())
    locked = {r.name: r.version for r in read(file).requirements}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *pyproject["project"]["optional-dependencies"]["hub"],
        *pyproject["dependency-groups"]["dev"],
    ]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(locked[canonical(requirement.name)]), requirement


def test_a_lock_keeps_markers_and_hashes_as_pip_reads_them(file: Path) -> None:
    text = f"a_b.C==1.0+cpu ; sys_platform == 'linux' \\\n    --hash=sha256:{SHA256} \\\n    --hash=sha256:{SHA256}\n"
    file.write_text(HEAD.format(disk=7, imports='"a"') + "# a comment\n\n" + text + PIN)
    lock = read(file)
    assert [(r.name, r.version) for r in lock.requirements] == [("a-b-c", "1.0+cpu"), ("first", "1.0")]
    assert [r.text + "\n" for r in lock.requirements] == [text, PIN]
    assert (lock.disk, lock.imports, lock.build) == (7, ("a",), None)
    assert lock.platforms["macos-arm64"].pythons == ("3.11", "3.12", "3.13", "3.14")


@pytest.mark.parametrize(
    "pin",
    [
        f"first>=1.0 --hash=sha256:{SHA256}",
        f"first --hash=sha256:{SHA256}",
        "first==1.0",
        "first==1.0 --hash=md5:0",
        "first==1.0 --hash=sha256:0123",
        f"-e . --hash=sha256:{SHA256}",
        f"--index-url https://example.org --hash=sha256:{SHA256}",
        f"first @ https://example.org/first-1.0.whl --hash=sha256:{SHA256}",
    ],
)
def test_a_lock_has_every_package_pinned_and_hashed(file: Path, pin: str) -> None:
    file.write_text(HEAD.format(disk=1, imports="") + PIN + pin + "\n")
    with pytest.raises(ValueError, match="has no exact version or no sha256"):
        read(file)


def test_a_lock_without_a_head_is_refused(file: Path) -> None:
    file.write_text(PIN)
    with pytest.raises(ValueError, match="# /// toolchain"):
        read(file)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('"2 GB"', r'^tiny\.txt: \$\.disk is "2 GB", not a whole number$'),
        ("1\n# imports_ = []", r"^tiny\.txt: \$\.imports_ is unknown; Lock has requirements, disk, imports, platforms"),
    ],
)
def test_a_head_has_the_required_keys_and_no_others(file: Path, head: str, message: str) -> None:
    file.write_text(HEAD.format(disk=head, imports="") + PIN)
    with pytest.raises(ValueError, match=message):
        read(file)


def test_an_empty_lock_is_refused(file: Path) -> None:
    file.write_text(HEAD.format(disk=1, imports=""))
    with pytest.raises(ValueError, match=r"tiny\.txt: nothing is locked"):
        read(file)


@pytest.fixture
def digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """The digest of a lock's text that is in build keys."""
    monkeypatch.setattr(toolchains, "FOLDER", tmp_path)

    def of(text: str) -> str:
        (tmp_path / "tiny.txt").write_text(text)
        return toolchains.lock_digest("tiny")

    return of


def test_the_digest_is_of_the_packages_and_the_way_they_are_installed(digest: Callable[[str], str]) -> None:
    before = digest(GGUF)
    for old, new in (
        ("torch==2.13.0+cpu", "torch==2.13.1+cpu"),
        ("sys_platform == 'linux'", "sys_platform == 'win32'"),
        (re.findall("--hash=sha256:[0-9a-f]{64}", GGUF)[0], f"--hash=sha256:{SHA256}"),
        ("-DGGML_NATIVE=OFF", "-DGGML_NATIVE=ON"),
    ):
        assert digest(GGUF.replace(old, new, 1)) != before
    assert digest(re.sub("disk = .*", "disk = 1", GGUF)) == before
    assert digest("# another comment\n" + GGUF) == before


def test_kernels_are_installed_anew_where_they_change_and_nothing_is_built_anew(digest: Callable[[str], str]) -> None:
    def digests(text: str) -> tuple[str, str]:
        return digest(text), toolchains.install_digest("tiny")

    without = re.sub(r"(?s)# \[kernels.*?(?=# \[platforms)", "", GGUF)
    found = [digests(text) for text in (GGUF, GGUF.replace("cascadelake", "cooperlake"), without)]
    assert len({built for built, _ in found}) == 1
    assert len({installed for _, installed in found}) == 3
    assert found[-1][0] == found[-1][1]


def test_the_levels_that_kernels_are_compiled_for_are_ordered_from_the_best() -> None:
    for levels in read(toolchains.lock_file("gguf")).kernels.values():
        wanted = [set(flags) for flags in levels.values()]
        assert all(wanted)
        assert not [1 for i, better in enumerate(wanted) for lesser in wanted[i + 1 :] if better <= lesser]


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True))
def test_a_canonical_name_is_its_own(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)
    assert canonical(name.upper().replace("-", "_")) == canonical(name)


def test_torch_is_its_cpu_build_on_linux_alone() -> None:
    locked = relock.with_cpu_torch(
        f"a==1 \\\n    --hash=sha256:{SHA256}\n" + PIN.replace("first==1.0", "torch==2.13.0")
    )
    assert "torch==2.13.0+cpu ; sys_platform == 'linux' \\\n" in locked
    assert f"torch==2.13.0 ; sys_platform != 'linux' \\\n    --hash=sha256:{SHA256}\n" in locked
    for digest in pytorch.cpu_wheels("2.13.0").values():
        assert f"--hash=sha256:{digest}" in locked


def test_a_torch_without_known_cpu_builds_ends_relocking_with_a_remedy() -> None:
    with pytest.raises(SystemExit, match=r"no line for torch 99\.0 in torch-cpu\.sha256: copy them from http"):
        relock.with_cpu_torch(PIN.replace("first==1.0", "torch==99.0"))


def test_the_known_cpu_builds_are_for_linux_and_every_python() -> None:
    wheels = pytorch.cpu_wheels("2.13.0")
    assert {name.split("-")[2] for name in wheels} == {"cp311", "cp312", "cp313", "cp314"}
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in wheels.values())
