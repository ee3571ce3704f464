"""Workers are entered, followed and ended: real ones, in this Python in place of a toolchain's."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

import bot
from bot.errors import (
    BuildError,
    ChatTemplateError,
    ConfigValueError,
    DamagedTokenizerError,
    DamagedWeightsError,
    DiskFullError,
    FormatRefusedError,
    MisfitError,
    NotFiniteError,
    SourceError,
    UnreadableModelError,
    WorkerLimitError,
)
from bot.printable import is_hidden
from bot.progress import Lines
from bot.records.artifacts import Json, Record
from bot.system import heartbeat
from bot.toolchains import Toolchain, enter, printed
from bot.toolchains.enter import Ending, Supervision, WholeSourceError, child_environment, run_worker
from bot.toolchains.watch import WorkerLimits
from bot.worker.harness import FORESEEN, SourceProblem
from tests.toolchains.processes import lives, wait_for_end
from tests.worker.running import small_disk

pytestmark = pytest.mark.process

PYTHON = Toolchain(name="plain", python=Path(sys.executable), lock_digest="0" * 64, versions={})


@dataclass(frozen=True, kw_only=True)
class Task(Record):
    """Something to hand to a worker."""

    text: str = ""


Run = Callable[..., Json]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the code of a command, as a worker of its own beside the real launcher and harness.

    The code is the body of ``work(task, report)``; ``first`` comes before that, at the top of the module.
    """
    package = tmp_path / "bot"
    real = Path(bot.__file__).parent
    for room in ("records", "system", "worker"):
        (package / room).mkdir(parents=True)
    for file in (
        *real.glob("*.py"),
        *(real / "records").glob("*.py"),
        *(real / "system").glob("*.py"),
        *(real / "worker" / f"{n}.py" for n in ("__init__", "launch", "harness", "disk")),
    ):
        shutil.copy(file, package / file.relative_to(real))
    monkeypatch.setattr(enter, "LAUNCHER", package / "worker" / "launch.py")

    def run(
        code: str,
        *,
        first: str = "",
        task: Record | None = None,
        events: list[Json] | None = None,
        limits: WorkerLimits | None = None,
        ending: Ending | None = None,
    ) -> Json:
        body = textwrap.indent(textwrap.dedent(code), "    ")
        source = (
            "import ctypes, os, signal, subprocess, sys, time\n"
            "from bot.worker.harness import *\n"
            f"{first}\ndef work(task, report):\n{body}\n\nmain({{'work': work}})\n"
        )
        (package / "worker" / "own.py").write_text(source)
        seen = [] if events is None else events
        return run_worker(
            PYTHON,
            "bot.worker.own",
            "work",
            task or Task(),
            Supervision(log=tmp_path / "logs" / "own.log", on_event=seen.append, limits=limits, ending=ending),
        )

    return run


def log(tmp_path: Path) -> str:
    return (tmp_path / "logs" / "own.log").read_text(errors="replace")


def test_a_task_goes_in_and_events_and_a_result_come_out(work: Run) -> None:
    events: list[Json] = []
    code = "report.progress('quantizing', 1, 1, 'tensors'); return task['text'].upper()"
    assert work(code, task=Task(text="phi ±"), events=events) == "PHI ±"
    assert events == [{"event": "progress", "what": "quantizing", "done": 1, "total": 1, "unit": "tensors"}]


def test_the_output_of_native_code_goes_to_the_log_and_nowhere_else(work: Run, tmp_path: Path) -> None:
    code = """
        ctypes.CDLL(None).puts(b"from C")
        print('{"event": "result", "value": "forged"}')
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)
        return "real"
    """
    assert work(code) == "real"
    assert "from C" in log(tmp_path)
    assert "forged" in log(tmp_path)


def test_output_before_the_worker_begins_goes_to_the_log_too(work: Run, tmp_path: Path) -> None:
    first = r"os.write(1, b'welcome to the library\n[1, 2]\n\xff\xfe\n')"
    assert work("return 1", first=first) == 1
    assert "welcome to the library" in log(tmp_path)


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("raise SourceProblem('model-1.safetensors is cut')", DamagedWeightsError, r"^model-1\.safetensors is cut$"),
        ("raise TokenizerProblem('it is empty')", DamagedTokenizerError, "^it is empty$"),
        ("raise TemplateProblem('it loops')", ChatTemplateError, "^it loops$"),
        ("raise ConfigProblem('vocab_size is 0')", ConfigValueError, "^vocab_size is 0$"),
        ("raise MisfitProblem('no lm_head')", MisfitError, "^no lm_head$"),
        ("raise NotFinite('a holds NaN')", NotFiniteError, "^a holds NaN$"),
        ("raise Unreadable('no such model')", UnreadableModelError, "^no such model$"),
        ("raise NotTaken('no such tokenizer')", FormatRefusedError, "^no such tokenizer$"),
        ("raise NeedsWholeSource('nf4')", WholeSourceError, "^nf4$"),
        ("raise OSError(28, 'No space left on device')", DiskFullError, "No space left on device"),
        ("raise OSError('5000 requested and 3000 written')", DiskFullError, "5000 requested and 3000 written"),
        ("raise RuntimeError('cannot write x.bin: No space left on device')", DiskFullError, "cannot write x.bin"),
        (
            "try:\n    raise OSError(28, 'full')\nexcept OSError as e:\n    raise NotTaken('no tokenizer') from e",
            DiskFullError,
            "no tokenizer",
        ),
        ("raise ValueError('no such layer')", BuildError, "^plain work: ValueError: no such layer$"),
        ("assert task is None", BuildError, r"^plain work: AssertionError: in work, own\.py, line \d+$"),
        ("os._exit(7)", BuildError, "^plain work ended with code 7 without a result$"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", BuildError, "^plain work was killed by signal 11 without a result$"),
    ],
)
def test_each_end_without_a_result_has_its_error(
    work: Run, tmp_path: Path, code: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        work(code)
    assert type(caught.value) is error


def test_the_output_of_a_worker_cannot_control_a_viewer_of_its_log(work: Run, tmp_path: Path) -> None:
    first = r"""
os.write(1, "early\u202e\x1b[2J\n".encode())
os.write(2, b" ::error::forged\n##[add-mask]a\n10%\r90%\r\n\xff\n" + "no \u2028line\x07 end".encode())
"""
    with pytest.raises(BuildError):
        work(r"raise KeyError('\u202e\n::stop-commands::x')", first=first)
    text = log(tmp_path)
    assert not [c for c in text if is_hidden(c) and c != "\n"]
    assert not re.search(r"(?m)^\s*::|##\[", text)
    for said in ("early\\u202e\\u001b[2J\n", " \\u003a:error::forged\n", "\n10%\n90%\n", "no \\u2028line\\u0007 end"):
        assert said in text
    assert "KeyError" in text


def test_later_output_of_a_workers_child_holds_up_nothing(work: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printed, "_PATIENCE", 0.2)
    started = time.monotonic()
    assert work("subprocess.Popen(['sleep', '30'], start_new_session=True); return 1", first="import subprocess") == 1
    assert time.monotonic() - started < 20


FILLS = """
try:
    with open(task["text"], "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
"""


@pytest.mark.process
@pytest.mark.parametrize("end", ["os.abort()", "raise KeyError('x')", "os._exit(3)"])
def test_a_worker_that_dies_on_a_full_disk_is_a_full_disk(work: Run, tmp_path: Path, end: str) -> None:
    """A library that aborts, or says something else; even the log has no room for what it said."""
    with small_disk(tmp_path / "logs", 2) as disk:
        with pytest.raises(DiskFullError) as caught:
            work(FILLS + end, task=Task(text=str(disk / "large")))
        assert str(disk) in caught.value.message
        assert " are free there" in caught.value.message


@pytest.mark.process
def test_a_log_without_room_holds_up_no_worker(work: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path / "logs", 2) as disk:
        end = "print('x' * 200_000, file=sys.stderr, flush=True); return 1"
        assert work(FILLS + end, task=Task(text=str(disk / "large"))) == 1


def test_every_end_that_a_worker_foresees_has_its_error() -> None:
    assert enter.FORESEEN.keys() == FORESEEN.keys()
    of_the_source = {kind for kind, problem in FORESEEN.items() if issubclass(problem, SourceProblem)}
    assert {kind for kind, (error, _) in enter.FORESEEN.items() if issubclass(error, SourceError)} == of_the_source


def test_a_worker_that_says_nothing_is_heard_of_all_the_same(work: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", 0.5)
    file = io.StringIO()
    with Lines(Console(file=file)).task("Building gguf/q8_0"):
        assert work("time.sleep(1.5); return 1") == 1
    assert re.findall(r"^Building gguf/q8_0; (\d)\.\d s so far$", file.getvalue(), re.MULTILINE)[:2] == ["0", "1"]


def test_a_worker_that_the_system_kills_is_said_to_want_memory(work: Run, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="was killed by signal 9") as caught:
        work("os.kill(os.getpid(), signal.SIGKILL)")
    assert caught.value.hint.startswith("Signal 9 often means too little memory. ")
    assert caught.value.hint.endswith(f"{tmp_path / 'logs' / 'own.log'}.")


def test_a_module_that_cannot_be_imported_is_an_error_with_its_log(work: Run, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ended with code 1 without a result"):
        work("return 1", first="import no_such_library")
    assert "No module named 'no_such_library'" in log(tmp_path)


def test_no_secret_reaches_a_worker(work: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SIGNING_KEY"):
        monkeypatch.setenv(name, "the-secret")
    monkeypatch.setenv("PYTHONPATH", "/the-secret")
    seen = work("return dict(os.environ)")
    assert "the-secret" not in str(seen)
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["PATH"] == os.environ["PATH"]


def test_the_environment_holds_only_allowed_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOMETHING_NEW", "1")
    assert "SOMETHING_NEW" not in child_environment(str(tmp_path))
    assert child_environment(str(tmp_path))["HF_HOME"] == str(tmp_path / "hf")


@pytest.mark.process
def test_only_workers_can_be_launched() -> None:
    command = [sys.executable, "-I", str(enter.LAUNCHER), "os"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "launch.py runs only bot.worker.* and bot.formats.*, not os\n"


# A worker that starts a process of its own and says which, and then goes on for ever.
_FAMILY = """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    report.event(event="pids", worker=os.getpid(), child=child.pid)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_ctrl_c_ends_a_worker_and_its_children(work: Run) -> None:
    pids: list[Json] = []

    class Interrupting(list[Json]):
        def append(self, event: Json) -> None:
            pids.append(event)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work(_FAMILY, events=Interrupting())
    wait_for_end(pids[0]["worker"])
    wait_for_end(pids[0]["child"])


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is of POSIX")
def test_a_worker_and_its_children_end_when_the_bot_is_killed(work: Run, tmp_path: Path) -> None:
    with pytest.raises(BuildError):  # leaves the worker's files where the other process finds them
        work("os._exit(1)")
    (tmp_path / "bot" / "worker" / "own.py").write_text(
        "import os, subprocess, sys, time\nfrom bot.worker.harness import main\n"
        f"def work(task, report):\n{_FAMILY}\nmain({{'work': work}})\n"
    )
    code = f"""
        import sys
        from pathlib import Path
        from bot.toolchains import Toolchain, enter, printed
        from bot.records.artifacts import Record
        enter.LAUNCHER = Path({str(enter.LAUNCHER)!r})
        python = Toolchain(name="plain", python=Path(sys.executable), lock_digest="", versions={{}})
        log = Path({str(tmp_path / "log")!r})
        on_event = lambda e: print(e["worker"], e["child"], flush=True)
        enter.run_worker(python, "bot.worker.own", "work", Record(), enter.Supervision(log=log, on_event=on_event))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker, child = map(int, process.stdout.readline().split())
    assert lives(worker)
    assert lives(child)
    process.kill()
    process.communicate()
    wait_for_end(worker)
    wait_for_end(child)


# ---- limits --------------------------------------------------------------------------------------------------

HOUR = 3600.0


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_one_that_does_not_end_is_ended_with_its_children(work: Run, tmp_path: Path) -> None:
    pids: list[Json] = []
    with pytest.raises(WorkerLimitError) as caught:
        work(_FAMILY, events=pids, limits=WorkerLimits(seconds=2.0, memory=1 << 40))
    assert caught.value.message == "plain work was stopped: it was still at work after 2.0 s, its limit of time"
    assert "PHI_BOT_WORKER_LIMITS" in caught.value.hint
    assert caught.value.hint.endswith(f"{tmp_path / 'logs' / 'own.log'}.")
    wait_for_end(pids[0]["worker"])
    wait_for_end(pids[0]["child"])


_GROWS = "import time; held = [bytearray(b'x' * (8 << 20)) for _ in iter(lambda: time.sleep(0.02), 1)]"


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_one_whose_child_grows_is_ended(work: Run) -> None:
    pids: list[Json] = []
    code = f"""
        child = subprocess.Popen([sys.executable, "-c", {_GROWS!r}])
        report.event(event="pids", child=child.pid)
        child.wait()
    """
    with pytest.raises(WorkerLimitError, match=r"it held \d+\.\d MB of memory, and its limit is 200\.0 MB$"):
        work(code, events=pids, limits=WorkerLimits(seconds=HOUR, memory=200_000_000))
    wait_for_end(pids[0]["child"])


def test_pages_of_files_do_not_count(work: Run, tmp_path: Path) -> None:
    """Weights are mapped: a worker that has read all of them holds none of it."""
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(500 << 20)
    code = f"""
        import mmap
        with open({str(weights)!r}, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for _ in range(3):
            total = sum(mapped[at] for at in range(0, len(mapped), 4096))
            time.sleep(0.5)
        return total
    """
    assert work(code, limits=WorkerLimits(seconds=HOUR, memory=200 << 20)) == 0


def test_one_that_starts_others_all_the_time_is_not_taken_for_more_than_it_is(work: Run) -> None:
    """Between fork and exec a child shows all that its parent holds."""
    code = """
        held = bytearray(b"x" * (150 << 20))
        began = time.monotonic()
        while time.monotonic() < began + 4:
            subprocess.run(["true"], preexec_fn=lambda: time.sleep(0.02))
        return len(held)
    """
    assert work(code, limits=WorkerLimits(seconds=HOUR, memory=700 << 20)) == 150 << 20


def test_a_result_that_is_there_is_taken_though_the_time_is_over(work: Run) -> None:
    first = "import threading"
    code = """
        threading.Thread(target=lambda: (time.sleep(0.2), time.sleep(600))).start()
        return "made"
    """
    assert work(code, first=first, limits=WorkerLimits(seconds=1.0, memory=1 << 40)) == "made"


@pytest.mark.parametrize("begun", [True, False])
def test_a_worker_in_another_thread_is_ended(work: Run, begun: bool) -> None:
    ending = Ending()
    if begun:
        threading.Timer(0.5, ending.end).start()
    else:
        ending.end()
    started = time.monotonic()
    with pytest.raises(BuildError, match="was killed by signal 9"):
        work("time.sleep(60)", ending=ending)
    assert time.monotonic() - started < 30
