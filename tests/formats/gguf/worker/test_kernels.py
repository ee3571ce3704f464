"""The kernels that verifying computes with: the best that the toolchain has for the processor, and right ones."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bot
from bot import toolchains
from bot.progress import Silent
from bot.toolchains import Toolchain, system
from bot.toolchains.install import ensure
from bot.toolchains.lock import read
from tests.worker.running import run_python

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(system.name() != "linux-x86_64", reason="kernels are compiled for x86-64 alone"),
]

ROOT = Path(bot.__file__).parent.parent
LEVELS = read(toolchains.lock_file("gguf")).kernels.get(system.name(), {})
FLAGS = {flag for flags in LEVELS.values() for flag in flags}

# What every program here begins with. Its argument: where the bot is.
PREPARED = """
import json, shutil, sys, tempfile
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import llama_cpp
from bot.formats.gguf.worker import kernels, trial
"""


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return ensure("gguf", Silent())


@pytest.fixture(scope="module")
def compiled(toolchain: Toolchain) -> list[str]:
    """The levels that this machine's compiler could compile, the best first."""
    manifest = toolchain.python.parent.parent / "lib" / "phi-bot" / "kernels.json"
    return [row["level"] for row in json.loads(manifest.read_text())] if manifest.exists() else []


def program(toolchain: Toolchain, code: str, *args: object) -> Any:
    """Run a program in the toolchain; return what it printed last, as JSON."""
    return json.loads(run_python(toolchain, PREPARED + code, ROOT, *args).splitlines()[-1])


def best(levels: list[str], processor: set[str]) -> str:
    """The level that a processor with some flags should take."""
    return next((level for level in levels if set(LEVELS[level]) <= processor), "")


USE = """
hidden = set(sys.argv[2:])
kernels.flags = lambda own=kernels.flags(): own - hidden
level = kernels.use_best()
print(json.dumps([level, llama_cpp.llama_print_system_info().decode()]))
"""


@pytest.mark.parametrize("hidden", [set(), {"amx_int8"}, {"avx512f"}, FLAGS])
def test_a_processor_takes_the_best_level_that_it_has(
    hidden: set[str], toolchain: Toolchain, compiled: list[str]
) -> None:
    has = system.processor_flags() - hidden
    level, features = program(toolchain, USE, *hidden)
    assert level == best(compiled, has)
    assert ("AVX512 = 1" in features) == ("avx512f" in LEVELS.get(level, ()))
    assert ("AMX_INT8 = 1" in features) == ("amx_int8" in LEVELS.get(level, ()))
    assert "AVX2 = 1" in features


def test_levels_that_this_processor_has_were_compiled_and_compute_right_products(
    toolchain: Toolchain, compiled: list[str]
) -> None:
    code = """
try:
    trial.main(str(kernels.FOLDER / f"libggml-cpu-{sys.argv[2]}.so"))
except SystemExit as end:
    print(json.dumps(end.code))
"""
    if not (runnable := [level for level, flags in LEVELS.items() if set(flags) <= system.processor_flags()]):
        pytest.skip("this processor has none of them")
    version = subprocess.run(["cc", "-dumpfullversion"], capture_output=True, text=True, check=False).stdout
    if int(version.partition(".")[0] or 0) >= 12:  # others may not know AMX
        assert compiled == list(LEVELS)
    for level in [level for level in runnable if level in compiled]:
        assert program(toolchain, code, level) == 0


def test_a_trial_says_which_products_are_wrong_and_by_how_much(toolchain: Toolchain, compiled: list[str]) -> None:
    if not (level := best(compiled, system.processor_flags())):
        pytest.skip("this processor has none of them")
    code = """
own = trial.dequantized
trial.dequantized = lambda kind, *args: own(kind, *args) * (1.1 if kind == 12 else 1)
try:
    trial.main(str(kernels.FOLDER / f"libggml-cpu-{sys.argv[2]}.so"))
except SystemExit as end:
    print(json.dumps(end.code.split("; ")))
"""
    wrong = program(toolchain, code, level)
    assert {line.partition(" in ")[0] for line in wrong} == {"Q4_K with 67 states", "Q4_K with 1 states"}
    assert all("off by 0.09" in line for line in wrong)


def test_a_damaged_library_is_passed_over(toolchain: Toolchain, compiled: list[str]) -> None:
    code = """
with tempfile.TemporaryDirectory() as folder:
    kernels.FOLDER = Path(shutil.copytree(kernels.FOLDER, Path(folder, "libraries")))
    with (kernels.FOLDER / f"libggml-cpu-{sys.argv[2]}.so").open("r+b") as file:
        file.truncate(100_000)
    print(json.dumps(kernels.use_best()))
"""
    if not (level := best(compiled, system.processor_flags())):
        pytest.skip("this processor has none of them")
    others = [name for name in compiled if name != level]
    assert program(toolchain, code, level) == best(others, system.processor_flags())


def test_what_decides_bytes_of_files_is_computed_with_llama_cpps_own_kernels(toolchain: Toolchain) -> None:
    code = """
from bot.formats.gguf.worker import importance
from bot.formats.gguf.worker.llama import LlamaModel
try:
    LlamaModel(Path("/none"))  # what measuring an importance matrix begins with
except ValueError:
    print(json.dumps(llama_cpp.llama_print_system_info().decode()))
"""
    assert "AVX512" not in program(toolchain, code)
