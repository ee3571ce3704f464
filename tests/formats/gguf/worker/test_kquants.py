"""K-quants in lanes: ggml's own bytes, or ggml's own function and a line that says why."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bot
from bot.formats.gguf import native
from bot.progress import Silent
from bot.toolchains import Toolchain, system
from bot.toolchains.compile import Compilation
from bot.toolchains.install import ensure
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain

ROOT = Path(bot.__file__).parent.parent
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SETS = {"linux-x86_64": ["AVX2", "AVX-512"], "linux-aarch64": ["NEON"], "macos-arm64": ["NEON"]}

# What every program here begins with. Its arguments: where the bot is, and the folder of libraries.
PREPARED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from bot.formats.gguf.worker import kquants
from bot.formats.gguf.worker.kquants import by_ggml, quantizer
from tests.formats.gguf.worker.kquants_rows import importances, rows
lines = []
libraries = Path(sys.argv[2])
TYPES = {"Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}

def made(quantize, kind, rows, importance=None):
    out = np.zeros((len(rows), kquants._row_size(kind, rows.shape[1])), np.uint8)
    quantize(kind, rows, importance, out)
    return out
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def libraries(toolchain: Toolchain) -> Path:
    return toolchain.python.parent.parent / "lib" / "phi-bot"


def program(toolchain: Toolchain, libraries: Path, code: str, *args: object) -> Any:
    """Run a program in the toolchain; return what it printed as JSON."""
    return json.loads(run_python(toolchain, PREPARED + code, ROOT, libraries, *args))


# Prints the line that was said, how many cases were compared, and those that differ.
COMPARE = """
quantize = quantizer(lines.append, libraries=libraries, only=[sys.argv[3]])
compared, differ = 0, []
random = np.random.default_rng(int(sys.argv[4]))
for count, width in ((3, 256), (5, 768), (2, 3072)):
    for kind, values in rows(random, count, width):
        for weighted, importance in importances(random, width):
            for name, number in TYPES.items():
                same = made(quantize, number, values, importance) == made(by_ggml, number, values, importance)
                compared += 1
                if not same.all():
                    differ.append(f"{name}, rows {kind}, importance {weighted}, {count} x {width}")
print(json.dumps([lines, compared, differ]))
"""


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.sweep), pytest.param(3, marks=pytest.mark.sweep)]
)
@pytest.mark.parametrize("instructions", SETS.get(system.name(), []))
def test_lanes_give_the_bytes_of_ggml(toolchain: Toolchain, libraries: Path, instructions: str, seed: int) -> None:
    (line,), compared, differ = program(toolchain, libraries, COMPARE, instructions, seed)
    if line.endswith("none of the faster ones is for this processor"):
        pytest.skip(f"this processor has no {instructions}")
    assert line == f"k-quants: {instructions} lanes"
    assert compared == 3 * 23 * 7 * 5
    assert differ == []


# Prints of how many types and importances the bytes of a large matrix differ.
LARGE = """
quantize = quantizer(lines.append, libraries=libraries, only=[sys.argv[3]])
random = np.random.default_rng(8)
values = random.normal(0, 0.02, (512, 4096)).astype(np.float32)
importance = random.normal(0, 1, 4096).astype(np.float32) ** 2
print(json.dumps(sum(
    not np.array_equal(made(quantize, kind, values, given), made(by_ggml, kind, values, given))
    for kind in TYPES.values() for given in (None, importance)
)))
"""


@pytest.mark.parametrize("instructions", SETS.get(system.name(), []))
def test_rare_super_blocks_are_quantized_alike(toolchain: Toolchain, libraries: Path, instructions: str) -> None:
    # Of the rounds in which levels are moved the last matters that rarely.
    assert program(toolchain, libraries, LARGE, instructions) == 0


# Prints the line that was said, the bytes that differ from ggml's, and whether it is ggml's function that was returned.
TRY = """
quantize = quantizer(lines.append, libraries=libraries)
differ = 0
for kind, values in rows(np.random.default_rng(4), 2, 512):
    differ += int((made(quantize, 12, values) != made(by_ggml, 12, values)).sum())
print(json.dumps([*lines, differ, quantize is by_ggml]))
"""


def test_the_fastest_of_this_processor_is_taken(toolchain: Toolchain, libraries: Path) -> None:
    line, differ, is_ggml = program(toolchain, libraries, TRY)
    assert line.removeprefix("k-quants: ").removesuffix(" lanes") in SETS[system.name()]
    assert not is_ggml
    assert differ == 0


def test_without_libraries_it_is_ggmls_function_and_that_is_said(toolchain: Toolchain, tmp_path: Path) -> None:
    assert program(toolchain, tmp_path, TRY) == [
        "k-quants: ggml's own search, because the toolchain was installed without one that is faster",
        0,
        True,
    ]


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_library_is_not_even_loaded(
    toolchain: Toolchain, libraries: Path, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(libraries, tmp_path / "libraries"))
    for file in copy.iterdir():
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content if damage == "flipped" else content[:4096])
    line, differ, is_ggml = program(toolchain, copy, TRY)
    assert line.startswith("k-quants: ggml's own search, because kquants-")
    assert line.endswith(".so is damaged")
    assert (differ, is_ggml) == (0, True)


# One wrong number in the sources, and what it is found by.
FAULTS = {
    "a step of the grid": ("(grid){-1.f, 0.1f, 20}", "(grid){-1.f, 0.11f, 20}", "Q4_K without"),
    "a step less": ("(grid){-0.9f, 0.05f, 36}", "(grid){-0.9f, 0.05f, 30}", "Q2_K with"),
    "a spread": ("2.f * sum_of_squares(QK_K, x)", "sum_of_squares(QK_K, x)", "Q3_K with"),
    "rounding": ("+ 12582912.f", "+ 12582912.1f", None),  # the same float: nothing is wrong with it
    "fewer rounds": ("round < 5", "round < 2", "Q3_K without"),
    "a rounded zero": ("const ints kept = scale == 0.f;", "const ints kept = {0};", "Q2_K without"),
    "the next row's importance": ("QK_K * (i % across)", "QK_K * (first % across)", "Q2_K with"),
    "the version": ("phi_bot_kquants_version = 1", "phi_bot_kquants_version = 2", "another version"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_library_that_gives_another_byte_is_refused(
    toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right, wrong, found = FAULTS[fault]
    sources = Path(shutil.copytree(native.SOURCE.parent, tmp_path / "sources"))
    text = {file: file.read_text() for file in sources.iterdir() if file.suffix in (".c", ".h")}
    assert any(right in content for content in text.values())
    for file, content in text.items():
        file.write_text(content.replace(right, wrong))
    monkeypatch.setattr(native, "SOURCE", sources / native.SOURCE.name)
    made = compiled(toolchain, tmp_path)
    line, differ, is_ggml = program(toolchain, made, TRY)
    if found is None:
        assert (line.endswith("lanes"), differ, is_ggml) == (True, 0, False)
    else:
        assert line.startswith("k-quants: ggml's own search, because ")
        assert found in line
        assert (differ, is_ggml) == (0, True)


def compiled(toolchain: Toolchain, folder: Path) -> Path:
    """Compile the sources for the instruction sets of this machine; return the folder of the libraries."""
    made, scratch = folder / "libraries", folder / "scratch"
    scratch.mkdir()
    headers = toolchain.python.parent.parent / "src" / "llama.cpp" / "ggml" / "src"
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(scratch)}
    where = Compilation(python=toolchain.python, scratch=scratch, log=folder / "log", env=env)
    native.compile_kquants(headers, into=made, where=where)
    return made


# Prints the same of types that are not in the library.
OTHERS = """
quantize = quantizer(lines.append, libraries=libraries)
differ = 0
values = np.random.default_rng(5).normal(0, 0.02, (3, 512)).astype(np.float32)
importance = np.random.default_rng(6).random(512).astype(np.float32)
for kind in (2, 8, 16, 20, 23, 30):  # Q4_0, Q8_0, IQ2_XXS, IQ4_NL, IQ4_XS, BF16
    found = made(quantize, kind, values, importance)
    assert found.any()
    differ += int((found != made(by_ggml, kind, values, importance)).sum())
print(json.dumps(differ))
"""


def test_other_types_are_left_to_ggml(toolchain: Toolchain, libraries: Path) -> None:
    assert program(toolchain, libraries, OTHERS) == 0


# Prints what was said of arrays that do not fit, which would end the process or write where nothing may be written.
MISFITS = """
quantize = quantizer(lines.append, libraries=libraries)
values, importance = np.zeros((2, 512), np.float32), np.ones(512, np.float32)
out = np.zeros((2, 288), np.uint8)
quantize(12, values, importance, out)
cases = {
    "narrow": (12, values[:, :300].copy(), None, out),
    "short": (12, values, None, out[:1]),
    "long": (12, values[:1], None, out),
    "wide importance": (12, values, np.ones(513, np.float32), out),
    "doubles": (12, values.astype(np.float64), None, out),
    "strided": (12, np.zeros((2, 1024), np.float32)[:, ::2], None, out),
    "none": (16, values, None, np.zeros((2, 132), np.uint8)),
}
said = {}
for use in (quantize, by_ggml):
    for name, case in cases.items():
        try:
            use(*case)
        except ValueError as error:
            said.setdefault(name, set()).add(str(error))
print(json.dumps({name: list(each) for name, each in said.items()}))
"""


def test_arrays_that_do_not_fit_are_refused(toolchain: Toolchain, libraries: Path) -> None:
    assert program(toolchain, libraries, MISFITS) == {
        "narrow": ["rows of 300 are not whole blocks of type 12"],
        "short": ["288 bytes for 2 rows of 288"],
        "long": ["576 bytes for 1 rows of 288"],
        "wide importance": ["the importance of (513,) columns for rows of 512"],
        "doubles": ["an array of float64 that is not contiguous float32"],
        "strided": ["an array of float32 that is not contiguous float32"],
        "none": ["type 16 takes an importance matrix"],
    }


# ---- on another processor ------------------------------------------------------------------------------------------

# Writes cases to a file: type, rows, columns, whether weighted; the rows, the importance, and ggml's bytes from here.
WRITE = """
random = np.random.default_rng(7)
written = 0
with open(sys.argv[3], "wb") as file:
    for count, width in ((1, 256), (3, 768)):
        for _, values in rows(random, count, width):
            for _, importance in importances(random, width):
                usual = [v for v in (values, importance) if v is not None]
                if not all((np.abs(v) < 2**30).all() for v in usual):
                    continue
                for number in TYPES.values():
                    head = np.array([number, count, width, len(usual) - 1], np.int32)
                    for part in (head, *usual, made(by_ggml, number, values, importance)):
                        file.write(part.tobytes())
                    written += 1
print(written)
"""


@pytest.mark.skipif(system.name() != "linux-x86_64", reason="compares arm64 with x86-64")
@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"needs {CROSS} and {EMULATOR}")
def test_lanes_of_arm64_give_the_bytes_of_ggml_on_x86_64(toolchain: Toolchain, libraries: Path, tmp_path: Path) -> None:
    cases, runner = tmp_path / "cases", tmp_path / "runner"
    written = program(toolchain, libraries, WRITE, cases)
    assert written > 500
    headers = toolchain.python.parent.parent / "src" / "llama.cpp" / "ggml" / "src"
    sources = [native.SOURCE, Path(__file__).with_name("kquants_arm64.c")]
    options = ["-O3", "-std=gnu11", "-ffp-contract=off", "-static", f"-I{headers}", "-o", str(runner)]
    subprocess.run([CROSS, *map(str, sources), *options], check=True)
    ran = subprocess.run([EMULATOR, str(runner), str(cases)], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{written} cases, 0 differ\n"
