"""What the bot has in C is compiled where that can be done, and nothing fails where it cannot."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.formats.gguf import native
from bot.formats.gguf.native import kernels
from bot.toolchains import lock_file, system
from bot.toolchains.compile import Compilation
from bot.toolchains.lock import read

Levels = Mapping[str, tuple[str, ...]]

COUNT = {"linux-x86_64": 2, "linux-aarch64": 1, "macos-arm64": 1}


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    """ggml's, as far as they are needed to compile: blocks of the right sizes."""
    folder = tmp_path / "headers"
    folder.mkdir()
    (folder / "ggml-common.h").write_text(
        """
        #include <stdint.h>
        #define QK_K 256
        typedef uint16_t ggml_half;
        typedef struct { uint8_t scales[16], qs[64]; ggml_half d, dmin; } block_q2_K;
        typedef struct { uint8_t hmask[32], qs[64], scales[12]; ggml_half d; } block_q3_K;
        typedef struct { ggml_half d, dmin; uint8_t scales[12], qs[128]; } block_q4_K;
        typedef struct { ggml_half d, dmin; uint8_t scales[12], qh[32], qs[128]; } block_q5_K;
        typedef struct { uint8_t ql[128], qh[64]; int8_t scales[16]; ggml_half d; } block_q6_K;
        """
    )
    return folder


def where(folder: Path, env: dict[str, str]) -> Compilation:
    """Compile in a folder, with the variables of an environment."""
    scratch, log = folder / "scratch", folder / "log"
    scratch.mkdir()
    log.write_text("")
    return Compilation(python=folder / "python", scratch=scratch, log=log, env=env)


def compile_in(folder: Path, headers: Path, **env: str) -> tuple[list[Path], str]:
    """Compile with the variables of an environment; return the libraries, and what is in the log."""
    native.after_install(
        {"kquants": headers.name},
        headers.parent,
        kernels={},
        unpack=lambda name: folder / name,
        into=folder / "lib",
        where=where(folder, env),
    )
    return sorted((folder / "lib").glob("*")), (folder / "log").read_text()


@pytest.mark.process
@pytest.mark.skipif(system.name() not in COUNT, reason="there are no lanes for this system")
def test_each_library_is_named_by_its_digest(tmp_path: Path, headers: Path) -> None:
    made, _ = compile_in(tmp_path, headers, PATH="/usr/local/bin:/usr/bin:/bin")
    assert len(made) == COUNT[system.name()]
    for file in made:
        assert file.stem.rpartition("-")[2] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.skipif(system.name() not in COUNT, reason="there are no lanes for this system")
def test_without_a_compiler_nothing_is_compiled_and_the_log_says_so(tmp_path: Path, headers: Path) -> None:
    made, log = compile_in(tmp_path, headers, PATH=str(tmp_path))
    assert made == []
    assert log.count("(no C compiler was found): ggml's own is taken.") == COUNT[system.name()]


@pytest.mark.skipif(system.name() not in COUNT, reason="there are no lanes for this system")
def test_a_compiler_may_fail_and_its_output_is_in_the_log(tmp_path: Path, headers: Path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho unknown option: $1\nexit 1\n")
    broken.chmod(0o755)
    made, log = compile_in(tmp_path, headers, PATH="/usr/bin:/bin", CC=str(broken))
    assert made == []
    assert "unknown option: -O3" in log
    assert f"({broken}): ggml's own is taken." in log


def test_on_a_system_without_lanes_nothing_is_tried(
    tmp_path: Path, headers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "name", lambda: "plan9-mips")
    assert compile_in(tmp_path, headers, PATH="/usr/local/bin:/usr/bin:/bin") == ([], "")


def test_the_gguf_toolchain_keeps_the_header_that_is_compiled_against() -> None:
    build = read(lock_file("gguf")).build
    assert build is not None
    assert f"{build.after_install['kquants']}/ggml-common.h" in build.keep


# A cmake that makes libraries of two levels and says that it failed.
CMAKE = """#!/bin/sh
[ "$1" = --build ] || exit 0
mkdir -p "$2/bin"
echo first > "$2/bin/libggml-cpu-first.so"
echo second > "$2/bin/libggml-cpu-second.so"
echo unknown option: -mamx-tile
exit 1
"""


def compile_levels(folder: Path, levels: Levels, cmake: str, python: str) -> tuple[list[str], str]:
    """Compile kernels by a cmake and try them by a python, both of them scripts; return the levels that are left."""
    for name, script in (("cmake", cmake), ("python", python)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    kernels.compile_kernels(
        levels,
        folder / "ggml",
        into=folder / "lib",
        where=where(folder, {"PATH": f"{folder}:/usr/bin:/bin"}),
    )
    manifest = folder / "lib" / kernels.MANIFEST
    rows = json.loads(manifest.read_text()) if manifest.exists() else []
    for row in rows:
        assert hashlib.sha256((folder / "lib" / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    return [row["level"] for row in rows], (folder / "log").read_text()


@pytest.mark.process
@pytest.mark.skipif(system.name() != "linux-x86_64", reason="these are flags of x86-64")
def test_levels_that_cannot_be_compiled_are_left_out_and_the_log_says_so(tmp_path: Path) -> None:
    levels = {"broken": ("fpu9000",), "first": ("fpu9000",), "second": ("fpu",)}
    made, log = compile_levels(tmp_path, levels, CMAKE, "#!/bin/sh\nexit 0\n")
    assert made == ["first", "second"]
    assert "unknown option: -mamx-tile" in log
    assert "kernels for broken could not be compiled" in log


@pytest.mark.process
@pytest.mark.skipif(system.name() != "linux-x86_64", reason="these are flags of x86-64")
def test_levels_of_this_processor_are_tried_and_left_out_where_that_fails(tmp_path: Path) -> None:
    levels = {"first": ("fpu9000",), "second": ("fpu",)}
    made, log = compile_levels(tmp_path, levels, CMAKE, "#!/bin/sh\nkill -ILL $$\n")
    assert made == ["first"]
    assert "kernels for second failed their trial" in log


@pytest.mark.process
def test_without_cmake_no_kernels_are_compiled(tmp_path: Path) -> None:
    made, log = compile_levels(tmp_path, {"first": ()}, "#!/bin/sh\nexit 1\n", "")
    assert made == []
    assert "kernels for first could not be compiled" in log
