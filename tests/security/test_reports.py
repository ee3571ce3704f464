"""Reports that a builder made up: what they cost who promotes, and what is remembered of them."""

import json
from pathlib import Path

import pytest

from bot.errors import BuildError, RecordError
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import Failure, Report
from bot.state import reports
from bot.state.store import Store, store_of
from tests.contexts import context_of
from tests.state.test_reports import CONFIG, JOB, ONE, failed
from tests.steps.jobs import release


def write(folder: Path, *failures: Failure) -> None:
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(Report(failures=failures).to_json()))


def test_a_failure_with_a_book_for_a_message_does_not_fill_the_memory(hub: RunningHub, tmp_path: Path) -> None:
    """A memory that is too large is not read, and a bot without its memory does nothing."""
    there = client.connect(hub.url, hub.token)
    store = Store(hub=there, repo_id="me/phi-bot-state")
    reports.begin((JOB,), store, CONFIG)
    long = "a" * 4_000_000
    names = [v.variant.name for v in JOB.variants]
    write(
        tmp_path / "reports", *(Failure.from_json(failed(n).to_json() | {"message": long, "hint": long}) for n in names)
    )
    reports.count(reports.failures_in(tmp_path / "reports"), Report(), context_of(CONFIG, hub=there))
    kept = store_of(there, "me", CONFIG).memory.attempts.values()
    assert {a.step for a in kept} == {"build"}
    assert all(len(a.message) + len(a.hint) < 10_000 for a in kept)


@pytest.mark.parametrize("code", [0, -1, 256, 10**4000])
def test_a_failure_does_not_choose_how_promoting_ends(tmp_path: Path, code: int) -> None:
    write(tmp_path / "reports", Failure.from_json(failed("gguf/q8_0").to_json() | {"exit_code": code}))
    with pytest.raises(RecordError, match="an exit code that does not exist"):
        reports.failures_in(tmp_path / "reports")


def test_a_report_of_more_failures_than_there_are_builds(tmp_path: Path) -> None:
    write(tmp_path / "reports", *([failed("gguf/q8_0")] * 20_000))
    with pytest.raises(RecordError, match="more than 10000 failures"):
        reports.failures_in(tmp_path / "reports")


def test_a_builder_says_nothing_of_the_models_of_others(hub: RunningHub, tmp_path: Path) -> None:
    there = client.connect(hub.url, hub.token)
    store = Store(hub=there, repo_id="me/phi-bot-state")
    reports.begin((JOB,), store, CONFIG)
    other = release(40_000_000, name="Phi-9")
    assert other.label != ONE.label
    write(tmp_path / "reports", Failure.from_json(failed("gguf/q8_0").to_json() | {"release": other.label}))
    reports.count(reports.failures_in(tmp_path / "reports"), Report(), context_of(CONFIG, hub=there))
    kept = store_of(there, "me", CONFIG).memory.attempts.values()
    assert {a.step for a in kept} == {"begun"}
    assert BuildError.exit_code not in {a.exit_code for a in kept}
