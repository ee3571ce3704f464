"""A side's code runs without our secrets, within limits, and leaves nothing running."""

import importlib.util
import json
import os
import py_compile
import sys
import time
from pathlib import Path

import pytest

from bot.reconvert import child
from bot.reconvert.child import ChildError, Code, code_of, ours
from tests.lives import lives
from tests.reconvert.trees import checkout

pytestmark = pytest.mark.process


@pytest.fixture
def code(tmp_path: Path) -> Code:
    """A checkout that has no code of its own."""
    return code_of(tmp_path)


def test_it_sees_no_token_and_not_the_home_where_one_may_lie(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_TOKEN",
        "GITHUB_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "PYTHONSTARTUP",
    ):
        monkeypatch.setenv(name, "a-secret")
    done = child.run(code, ["-c", "import os, json; print(json.dumps(dict(os.environ)))"], seconds=60)
    seen = json.loads(done.stdout)
    assert "a-secret" not in seen.values()
    assert seen["HOME"] != os.environ["HOME"]
    assert seen["HF_HUB_OFFLINE"] == "1"


def test_it_is_stopped_when_its_time_is_over(code: Code) -> None:
    started = time.monotonic()
    with pytest.raises(ChildError, match="stopped after 1 seconds"):
        child.run(code, ["-c", "while True: pass"], seconds=1)
    assert time.monotonic() - started < 10


def test_it_is_stopped_when_it_prints_without_end(code: Code) -> None:
    with pytest.raises(ChildError, match="because it printed too much"):
        child.run(code, ["-c", "while True: print('a' * 10**6)"], seconds=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes")
def test_processes_it_leaves_running_end_with_it(code: Code, tmp_path: Path) -> None:
    left = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    done = child.run(code, ["-c", left], seconds=60)
    deadline = time.monotonic() + 10
    while lives(int(done.stdout)):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)


@pytest.mark.parametrize("worker", [False, True], ids=["command line", "worker"])
def test_bytecode_in_a_checkout_is_not_run(tmp_path: Path, worker: bool) -> None:
    """Python runs bytecode of the unchecked kind without a look at its source, which is what a comparison reads."""
    side = checkout(tmp_path / "side")
    (side / "bot/cli/probe.py").write_text("print('source')\n")
    (side / "bot/worker/probe.py").write_text("print('source')\n")
    (tmp_path / "other.py").write_text("print('bytecode')\n")
    for folder in ("cli", "worker"):
        compiled = importlib.util.cache_from_source(str(side / "bot" / folder / "probe.py"))
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(tmp_path / "other.py"), compiled, invalidation_mode=mode, doraise=True)
    lent = "import bot.worker, subprocess, sys; print(subprocess.run([sys.executable, '-I', "
    lent += "bot.worker.__path__[0] + '/launch.py', 'bot.worker.probe'], capture_output=True, text=True).stdout)"
    done = child.run(code_of(side), ["-c", lent] if worker else ["-m", "bot.cli.probe"], seconds=60)
    assert done.stdout.strip() == "source"


def test_a_folder_without_code_is_compared_with_ours(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "__init__.py").write_text("raise SystemExit('this is not phi-bot')")
    code = code_of(tmp_path)
    assert code.root == ours(tmp_path).root
    done = child.run(code, ["-c", "import bot; print(bot.__file__)"], seconds=60)
    assert Path(done.stdout.strip()).is_relative_to(code.root)


def test_its_last_words_are_told_in_one_line(code: Code) -> None:
    done = child.run(code, ["-c", "raise ValueError('\\x1b[31mred')"], seconds=60)
    assert child.failure_line(done) == "ValueError: \ufffd[31mred"
    done = child.run(code, ["-m", "bot.cli", "build", "nobody/nothing/at/all", "--work", "w"], seconds=60)
    assert child.failure_line(done).startswith("'nobody/nothing/at/all' is neither a folder here nor a repo id")
