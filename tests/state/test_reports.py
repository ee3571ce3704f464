"""What building machines report, and what the bot remembers of it."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bot.config import Config
from bot.config.places import PublishTable
from bot.errors import BuildError, DiskFullError, RecordError
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import Failure, Publication, Report
from bot.records.failures import failure
from bot.state import reports
from bot.state.memory import Memory
from bot.state.store import Store, store_of
from tests.contexts import context_of
from tests.hub.faulty import proxy
from tests.pages.cards.examples import GGUF
from tests.steps.jobs import job, release

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
CONFIG = Config(publish=PublishTable(namespace="me"))
ONE = release(30_000_000)
_FIRST, _SECOND = job(ONE, "gguf/q4_k_m", "gguf/q8_0").variants
JOB = replace(job(ONE, "gguf"), variants=(_FIRST, replace(_SECOND, build_key="e" * 64)))


def failed(name: str, error: type[BuildError | DiskFullError] = BuildError) -> Failure:
    return failure(ONE.label, name, "build", error("it broke", hint="Look."))


def write(folder: Path, name: str, value: object) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def test_the_failures_of_all_reports_are_read(tmp_path: Path) -> None:
    write(tmp_path, "report-0/report.json", Report(failures=(failed("gguf/q8_0"),)).to_json())
    write(tmp_path, "report-1/report.json", Report().to_json())
    assert reports.failures_in(tmp_path) == (failed("gguf/q8_0"),)


def test_a_link_is_not_followed_and_no_report_is_an_error(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, "secret.json", {})
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "report.json").symlink_to(outside / "secret.json")
    assert reports.failures_in(folder) == ()
    write(folder, "other.json", {"failures": "many"})
    with pytest.raises(RecordError, match=r"other\.json"):
        reports.failures_in(folder)


def test_a_report_of_any_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(b" " * 20_000_001)
    with pytest.raises(RecordError, match="more than 20000000 bytes"):
        reports.failures_in(tmp_path)


def test_an_attempt_is_counted_before_it_begins_and_its_end_is_kept(hub: RunningHub) -> None:
    there = client.connect(hub.url, hub.token)
    store = Store(hub=there, repo_id="me/phi-bot-state")
    reports.begin((JOB,), store, CONFIG)
    assert {a.step for a in store.memory.attempts.values()} == {"begun"}

    proven = GGUF.builds[0]
    published = replace(proven, build=replace(proven.build, build_key=_FIRST.build_key))
    done = Publication(
        repo_id="me/x", commit="a" * 40, url="https://hub.example/me/x", created=True, builds=(published,)
    )
    report = Report(publications=(done,))
    reports.count((failed("gguf/q8_0"),), report, context_of(CONFIG, hub=there))
    (known,) = store_of(there, "me", CONFIG).memory.attempts.values()
    assert (known.variant, known.step, known.message, known.attempts) == ("gguf/q8_0", "build", "it broke", 1)


def begun() -> Memory:
    return Memory().begun(ONE.label, JOB.variants, now=NOW, most=3)


def test_a_failure_that_says_nothing_about_the_variant_does_not_count() -> None:
    memory = begun().failed([failed("gguf/q4_k_m", DiskFullError), failed("gguf/q8_0")], now=NOW, most=3)
    assert [a.variant for a in memory.attempts.values()] == ["gguf/q8_0"]


def test_failures_of_attempts_that_nobody_began_are_not_kept() -> None:
    assert Memory().failed([failed("gguf/q8_0")], now=NOW, most=3) == Memory()
    other = failure("evil/Phi@000000000000", "gguf/q8_0", "build", BuildError("it broke", hint="Look."))
    assert begun().failed([other], now=NOW, most=3) == begun()


def test_an_end_is_counted_once() -> None:
    once = begun().failed([failed("gguf/q8_0")], now=NOW, most=3)
    assert once.failed([failed("gguf/q8_0")], now=NOW, most=3) == once


def test_without_anything_to_remember_nothing_is_asked(hub: RunningHub) -> None:
    with proxy(hub.url) as between:
        there = client.connect(between.url, hub.token)
        reports.count((), Report(), context_of(CONFIG, hub=there))
        assert between.seen == []
        reports.count([failed("gguf/q8_0")], Report(), context_of(CONFIG, hub=there))
        assert between.seen != []
