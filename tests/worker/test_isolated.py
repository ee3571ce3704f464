"""What is done for a target in an interpreter of its own: what comes back of each way in which one can end."""

import errno
import json
from pathlib import Path

import pytest

from bot import catalogue
from bot.records.artifacts import Json
from bot.records.tasks import BuildTask, Target
from bot.worker import isolated
from bot.worker.harness import FORESEEN, Reporter

_VARIANTS = [catalogue.all_variants()[f"openvino/{name}"] for name in ("int4", "int8")]

# Workers as small as can be: each does one of the things that a real one may do.
_WORKERS = {
    "builds": "report.built(task.targets[0].variant); return {'constants': 3}",
    "fails_alone": "report.failed(task.targets[0].variant, 'no such groups')",
    "raises": "raise ValueError('two\\nlines')",
    **{kind: f"raise FORESEEN[{kind!r}]('so it is')" for kind in FORESEEN},
    "fills_the_disk": "raise OSError(28, 'No space left on device')",
    "dies": "os.kill(os.getpid(), 9)",
    "leaves": "os._exit(7)",
}
_WORKER = """
import os
from bot.records.tasks import BuildTask
from bot.worker.harness import FORESEEN, main

def build(task_json, report):
    task = BuildTask.from_json(task_json)
    assert len(task.targets) == 1
    assert os.path.isdir(task.scratch)
    {body}

main({{"build": build}})
"""


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> tuple[list[Json], list[Json]]:
    """Build two targets with a worker; return what it returns for each, and the events that reach the bot."""
    worker = tmp_path / "worker.py"
    worker.write_text(_WORKER.format(body=_WORKERS[does]))
    launcher = tmp_path / "launch.py"
    launcher.write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(Path.cwd())!r})\n"
        f"sys.argv = sys.argv[1:]\nrunpy.run_path({str(worker)!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(isolated, "_LAUNCHER", launcher)
    (tmp_path / "scratch").mkdir()
    targets = tuple(Target(variant=v, out=str(tmp_path)) for v in _VARIANTS)
    task = BuildTask(
        source=str(tmp_path), model_name="x", targets=targets, scratch=str(tmp_path / "scratch"), threads=1
    )
    events = tmp_path / "events"
    with events.open("wb") as file:
        report = Reporter(file.fileno())
        values = [isolated.run_alone("bot.worker.any", "build", task, target, report) for target in targets]
    assert list((tmp_path / "scratch").iterdir()) == []
    return values, [json.loads(line) for line in events.read_text().splitlines()]


def test_reports_and_results_of_each_child_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, events = _run(tmp_path, monkeypatch, "builds")
    assert values == [{"constants": 3}] * 2
    assert [(e["event"], e["variant"]) for e in events] == [("built", v.name) for v in _VARIANTS]


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("fails_alone", "no such groups"),
        ("raises", "ValueError: two lines"),
        ("dies", "the builder was killed by signal 9; signal 9 often means too little memory"),
        ("leaves", "the builder ended with code 7"),
    ],
)
def test_a_target_that_its_worker_fails_on_or_dies_of_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str
) -> None:
    values, events = _run(tmp_path, monkeypatch, does)
    assert values == [None, None]
    assert [(e["event"], e["variant"], e["message"]) for e in events] == [
        ("failed", v.name, message) for v in _VARIANTS
    ]


@pytest.mark.parametrize("kind", FORESEEN)
def test_a_foreseen_error_keeps_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with pytest.raises(FORESEEN[kind], match=r"^so it is$") as raised:
        _run(tmp_path, monkeypatch, kind)
    assert type(raised.value) is FORESEEN[kind]


def test_a_full_disk_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left on device") as raised:
        _run(tmp_path, monkeypatch, "fills_the_disk")
    assert raised.value.errno == errno.ENOSPC
