"""A bot's cycle on the embedded Hub, with models that fail before any toolchain is asked."""

import dataclasses
import datetime as dt
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from huggingface_hub import HfApi

from bot import catalogue
from bot.building.cleaning import PUBLISHED_FILE
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, RunTable, WatchTable
from bot.context import Context
from bot.errors import BuildError, HubUnreachableError
from bot.hub import client
from bot.localhub import RunningHub
from bot.progress import Silent
from bot.proving import prove
from bot.records.artifacts import Report
from bot.records.failures import cut_short, failure
from bot.state.memory import Memory
from bot.state.store import Store
from bot.steps import run as steps
from bot.steps.run import Cycle, run
from bot.workspace import Workspace
from tests.source import models

STATE = "me/phi-bot-state"


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


@pytest.fixture
def broken(api: HfApi) -> str:
    """A release whose weights turn out to be damaged when they are there."""
    api.create_repo("microsoft/Phi-9")
    for name, content in models.files(model__safetensors=b"no header").items():
        api.upload_file(repo_id="microsoft/Phi-9", path_in_repo=name, path_or_fileobj=content)
    return "microsoft/Phi-9"


def context(hub: RunningHub, work: Path, **bot: Any) -> Context:
    config = Config(
        run=RunTable(**bot),
        watch=WatchTable(authors=("microsoft",)),
        build=BuildTable(work=work),
        publish=PublishTable(namespace="me"),
    )
    return Context(
        config=config, workspace=Workspace(root=work), hub=client.connect(hub.url, hub.token), display=Heard()
    )


def cycle(hub: RunningHub, work: Path, *models_: str, **bot: Any) -> tuple[Cycle, Report]:
    return run(models_, catalogue.select(["mlx"]), named=frozenset(), context=context(hub, work, **bot))


def remembered(hub: RunningHub) -> Store:
    store = Store(hub=client.connect(hub.url, hub.token), repo_id=STATE)
    store.read()
    return store


def test_a_dry_run_plans_and_leaves_no_trace(hub: RunningHub, api: HfApi, broken: str, tmp_path: Path) -> None:
    seen, report = cycle(hub, tmp_path / "work", dry_run=True)
    assert [j.release.repo_id for j in seen.todo.jobs] == [broken]
    assert report == Report()
    assert list(api.list_datasets(author="me")) == []
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("setting", ["never", "measured"])
def test_a_matrix_is_tried_where_the_configuration_says_so(
    hub: RunningHub, broken: str, tmp_path: Path, setting: Literal["never", "measured"]
) -> None:
    given = context(hub, tmp_path / "work")
    config = dataclasses.replace(given.config, build=BuildTable(work=tmp_path / "work", imatrix_from_4_bits=setting))
    rows = catalogue.select(["gguf/q4_k_m", "gguf/q8_0"])
    seen = steps.watch_and_plan([broken], rows, dataclasses.replace(given, config=config), steps.TO_SEE)
    options = {v.variant.short_name: v.variant.options for job in seen.todo.jobs for v in job.variants}
    trying = {"imatrix": "measured"} if setting == "measured" else {}
    assert options == {"q4_k_m": {"ftype": "Q4_K_M"} | trying, "q8_0": {"ftype": "Q8_0"}}


def test_a_line_in_the_configuration_pauses_it(hub: RunningHub, broken: str, tmp_path: Path) -> None:
    seen, report = cycle(hub, tmp_path / "work", paused=True)
    assert (seen.paused, seen.todo.jobs, report) == ("run.paused is true in the configuration", (), Report())


def test_a_file_on_the_hub_pauses_every_machine(hub: RunningHub, api: HfApi, broken: str, tmp_path: Path) -> None:
    api.create_repo(STATE, repo_type="dataset")
    api.upload_file(repo_id=STATE, repo_type="dataset", path_in_repo="PAUSED", path_or_fileobj=b"too many failures\n")
    for machine in ("one", "other"):
        seen, report = cycle(hub, tmp_path / machine)
        assert (seen.paused, report) == ("too many failures", Report())
    remembered(hub).resume()
    seen, _ = cycle(hub, tmp_path / "one")
    assert seen.paused is None


def test_a_run_that_is_at_work_stops_after_the_model_it_is_at(
    hub: RunningHub, api: HfApi, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_repo("microsoft/Phi-8")
    for name, content in models.files(tokenizer__json=b'{"a": 1}', model__safetensors=b"no header").items():
        api.upload_file(repo_id="microsoft/Phi-8", path_in_repo=name, path_or_fileobj=content)
    real = prove.prove_all

    def prove_and_pause(*arguments: Any) -> Report:
        remembered(hub).pause("enough for today")
        return real(*arguments)

    monkeypatch.setattr(steps, "prove_all", prove_and_pause)
    seen, report = cycle(hub, tmp_path / "work")
    assert len({j.release.repo_id for j in seen.todo.jobs}) == 2
    assert (seen.paused, len({f.release for f in report.failures})) == ("enough for today", 1)


def test_a_failure_on_one_machine_is_not_tried_at_once_on_another_one(
    hub: RunningHub, broken: str, tmp_path: Path
) -> None:
    _, report = cycle(hub, tmp_path / "one")
    assert [(f.variant, f.exit_code) for f in report.failures] == [("mlx/4bit", 22)]
    seen, report = cycle(hub, tmp_path / "other")
    assert (seen.todo.jobs, report.failures) == ((), ())
    assert [(p.why, p.planned.variant.name) for p in seen.todo.postponed] == [("failed", "mlx/4bit")]
    (attempt,) = remembered(hub).memory.attempts.values()
    assert (attempt.attempts, attempt.step, attempt.exit_code) == (1, "build", 22)


def test_who_names_a_model_does_not_wait(hub: RunningHub, broken: str, tmp_path: Path) -> None:
    for _ in range(4):
        _, report = cycle(hub, tmp_path / "work", broken)
        assert len(report.failures) == 1
    seen, _ = cycle(hub, tmp_path / "work")
    assert "failed 4 times and waits for `phi-bot retry`" in seen.todo.postponed[0].text


def test_after_three_attempts_it_waits_for_a_person(hub: RunningHub, broken: str, tmp_path: Path) -> None:
    store = remembered(hub)
    for _ in range(3):
        _, report = cycle(hub, tmp_path / "work")
        assert len(report.failures) == 1
        store.read()
        store.update(_later, "Let time pass")
    seen, report = cycle(hub, tmp_path / "work")
    assert "waits for `phi-bot retry`" in seen.todo.postponed[0].text
    store.read()
    store.update(lambda m: m.forget(m.attempts), "Retry")
    _, report = cycle(hub, tmp_path / "work")
    assert len(report.failures) == 1


def _later(memory: Memory) -> Memory:
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC).isoformat()
    due = {key: dataclasses.replace(a, next=a.next and past) for key, a in memory.attempts.items()}
    return dataclasses.replace(memory, attempts=due)


def test_a_failure_is_forgotten_when_the_model_changes(
    hub: RunningHub, api: HfApi, broken: str, tmp_path: Path
) -> None:
    cycle(hub, tmp_path / "work")
    (before,) = remembered(hub).memory.attempts
    api.upload_file(repo_id=broken, path_in_repo="tokenizer.json", path_or_fileobj=b'{"mended": true}')
    _, report = cycle(hub, tmp_path / "work")
    assert len(report.failures) == 1
    (after,) = remembered(hub).memory.attempts
    assert before != after


def test_a_failure_of_a_size_is_remembered_by_a_run_that_asks_for_none(
    hub: RunningHub, broken: str, tmp_path: Path
) -> None:
    sized = catalogue.select(["gguf/fit:0.000002MB"])  # of weights of 9 bytes
    run([], sized, named=frozenset(), context=context(hub, tmp_path / "work"))
    before = remembered(hub).memory.attempts
    cycle(hub, tmp_path / "work")
    after = remembered(hub).memory.attempts
    assert len(before) == 1
    assert before.items() <= after.items()


def test_ctrl_c_counts_as_no_attempt(
    hub: RunningHub, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "prove_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cycle(hub, tmp_path / "work")
    assert remembered(hub).memory.attempts == {}


@pytest.mark.parametrize("end", ["ctrl-c", "kill -9", "no answer"])
def test_an_end_that_says_nothing_leaves_the_error_of_before(
    hub: RunningHub, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    cycle(hub, tmp_path / "work")
    store = remembered(hub)
    (before,) = store.memory.attempts.values()
    assert before.exit_code == 22
    store.update(_later, "Let time pass")

    def ended(*_: Any) -> Report:
        if end == "ctrl-c":
            raise KeyboardInterrupt
        if end == "kill -9":
            raise SystemExit  # leaves without a word to the memory, as a killed process does
        why = HubUnreachableError("no answer", hint="Later.")
        return Report(failures=(failure(before.release, before.variant, "build", why),))

    monkeypatch.setattr(steps, "prove_all", ended)
    with suppress(KeyboardInterrupt, SystemExit):
        cycle(hub, tmp_path / "work")
    (after,) = remembered(hub).memory.attempts.values()
    assert before.message in after.words
    if end != "kill -9":
        assert (after.step, after.message, after.hint, after.exit_code, after.attempts) == (
            before.step,
            before.message,
            before.hint,
            before.exit_code,
            before.attempts,
        )


def test_failures_before_ctrl_c_are_kept_and_the_rest_is_not_counted(
    hub: RunningHub, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(jobs: Any, *_: Any) -> Report:
        (job,) = jobs
        why = BuildError("it broke", hint="Look.")
        done = Report(failures=(failure(job.release.label, job.variants[0].variant.name, "build", why),))
        raise cut_short(done, KeyboardInterrupt(), [(job.release.label, v.variant.name) for v in job.variants], "build")

    monkeypatch.setattr(steps, "prove_all", ended)
    with pytest.raises(KeyboardInterrupt):
        run(
            [broken],
            catalogue.select(["mlx/4bit", "mlx/8bit"]),
            named=frozenset(),
            context=context(hub, tmp_path / "w"),
        )
    (attempt,) = remembered(hub).memory.attempts.values()
    assert (attempt.message, attempt.variant, attempt.attempts) == ("it broke", "mlx/4bit", 1)


def test_a_cycle_without_anything_new_writes_nothing(hub: RunningHub, api: HfApi, broken: str, tmp_path: Path) -> None:
    cycle(hub, tmp_path / "work")
    commits = [c.commit_id for c in api.list_repo_commits(STATE, repo_type="dataset")]
    cycle(hub, tmp_path / "work")
    assert [c.commit_id for c in api.list_repo_commits(STATE, repo_type="dataset")] == commits


def test_a_published_variant_is_not_counted_as_an_attempt_any_more(
    hub: RunningHub, api: HfApi, broken: str, tmp_path: Path
) -> None:
    """A run that was cut off after its commit, before it could say so, or another bot that was faster."""
    planned = cycle(hub, tmp_path / "work", dry_run=True)[0].todo.jobs[0].variants[0]
    store = remembered(hub)
    store.update(lambda m: m.begun(broken, [planned], now=dt.datetime.now(dt.UTC), most=3), "Begin")
    said = {
        "source": broken,
        "builds": {planned.variant.name: planned.build_key},
        "contents": {planned.variant.name: "0" * 64},
    }
    head = f"---\n{yaml.safe_dump({'phi_bot': said})}---\n".encode()
    api.create_repo(planned.repo_id)
    for name, content in (("README.md", head), ("phi-bot.json", b"{}")):
        api.upload_file(repo_id=planned.repo_id, path_in_repo=name, path_or_fileobj=content)
    seen, _ = cycle(hub, tmp_path / "work")
    assert [p.build_key for p in seen.todo.done] == [planned.build_key]
    assert remembered(hub).memory.attempts == {}


def test_published_files_of_other_releases_force_no_turns(
    hub: RunningHub, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "work" / "artifacts" / ("a" * 32)
    old.mkdir(parents=True)
    (old / PUBLISHED_FILE).write_text("{}")
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=0 if old.exists() else 10**11))
    given = context(hub, tmp_path / "work")
    _, report = run([], catalogue.select(["gguf/q8_0", "mlx/4bit"]), named=frozenset(), context=given)
    assert {f.variant for f in report.failures} == {"gguf/q8_0", "mlx/4bit"}
    assert isinstance(given.display, Heard)
    assert not any("does not hold all files" in line for line in given.display.lines)


def test_a_later_turn_knows_that_the_model_itself_is_at_fault(
    hub: RunningHub, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[list[str]] = []
    real = prove.prove_all

    def proving(*arguments: Any) -> Report:
        known.append([*arguments[3]])
        return real(*arguments)

    monkeypatch.setattr(steps, "prove_all", proving)
    monkeypatch.setattr(steps, "in_turns", lambda jobs, _: [(job,) for job in jobs])  # as on a small disk
    rows = catalogue.select(["gguf/q8_0", "mlx/4bit"])
    seen, report = run([], rows, named=frozenset(), context=context(hub, tmp_path / "work"))
    assert known == [[], [seen.todo.jobs[0].release.label]]
    assert [(f.variant, f.exit_code) for f in report.failures] == [("gguf/q8_0", 22), ("mlx/4bit", 22)]
    assert [a.exit_code for a in remembered(hub).memory.attempts.values()] == [22, 22]
