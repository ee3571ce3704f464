"""What GitHub says of an event, whatever is in it: read, or refused in one line that names the field."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.cli import cli
from bot.errors import ApprovalError, PhiBotError
from bot.github import WorkflowRun, client
from bot.reconvert.approval import Labeling
from tests.github_server import GitHub, serve

A = "a" * 40
LABELED: dict[str, Any] = {
    "action": "labeled",
    "repository": {"full_name": "o/r"},
    "pull_request": {"number": 7, "head": {"sha": A}},
    "label": {"name": "convert:microsoft/Phi-9"},
    "sender": {"login": "maintainer"},
}
HAS_RUN: dict[str, Any] = {
    "repository": {"full_name": "o/r"},
    "workflow_run": {"head_sha": A, "head_branch": "topic", "head_repository": {"full_name": "someone/r"}},
}
Kind = type[Labeling] | type[WorkflowRun]
EVENTS: dict[Kind, dict[str, Any]] = {Labeling: LABELED, WorkflowRun: HAS_RUN}
#: Fields of which more than one value can be read.
MAY_BE_OTHERWISE: dict[Kind, set[tuple[str, ...]]] = {
    Labeling: {("label", "name"), ("pull_request", "number"), ("sender", "login"), ("repository", "full_name")},
    WorkflowRun: {("workflow_run", "head_repository"), ("workflow_run", "head_branch"), ("repository", "full_name")},
}
MISSING = object()

_ODD = [MISSING, None, True, 0, -1, 2**70, 1.5, "", "7", "\ud800", "a\n::error::b", "x" * 5000, [], [{}], {}, {"a": 1}]
_VALUES = st.sampled_from(_ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every way to a value in an event; the first is the one to the whole."""
    inner = value.items() if isinstance(value, dict) else ()
    return [before, *(path for name, v in inner for path in paths(v, (*before, name)))]


def changed(event: dict[str, Any], path: tuple[str, ...], value: Any) -> Any:
    """An event with one value in place of another, or without it."""
    if not path:
        return None if value is MISSING else value
    whole = copy.deepcopy(event)
    inside = whole
    for name in path[:-1]:
        inside = inside[name]
    if value is MISSING:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return whole


def one_changed(event: dict[str, Any]) -> st.SearchStrategy[tuple[tuple[str, ...], Any]]:
    return st.tuples(st.sampled_from(paths(event)), _VALUES)


def refusal(kind: Kind, payload: Any) -> str | None:
    """What is said of a payload; None for one that is read."""
    try:
        kind.from_event(payload)
    except ApprovalError as error:
        return error.message
    return None


@pytest.mark.parametrize("kind", EVENTS)
@given(data=st.data())
def test_one_field_that_is_something_else_is_named(kind: Kind, data: st.DataObject) -> None:
    path, value = data.draw(one_changed(EVENTS[kind]))
    said = refusal(kind, changed(EVENTS[kind], path, value))
    if said is None:
        assert path in MAY_BE_OTHERWISE[kind]
        return
    assert ".".join(path) in said or path == ("action",)
    assert len(said) < 400
    assert said.isprintable()


@pytest.mark.parametrize("number", [0, -1, 2**63, 2**70, 10**10, 7.0, True, "7", None])
def test_a_number_that_no_pull_request_has(number: object) -> None:
    event = changed(LABELED, ("pull_request", "number"), number)
    with pytest.raises(ApprovalError, match=r"pull_request\.number is not a number"):
        Labeling.from_event(event)


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setattr(client, "_PAUSE", 0.0)
    with serve() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


COMMANDS: dict[Kind, tuple[str, ...]] = {
    Labeling: ("approve", "--dry-run"),
    WorkflowRun: ("propose", "none.json", "--head", A),
}


@pytest.mark.server
@pytest.mark.parametrize("kind", EVENTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_event_ends_a_command_in_a_traceback(
    kind: Kind, github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    path, value = data.draw(one_changed(EVENTS[kind]))
    file = tmp_path / "event.json"
    file.write_text(json.dumps(changed(EVENTS[kind], path, value)))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(file))
    with suppress(PhiBotError):  # anything else fails the test
        cli.main(list(COMMANDS[kind]), prog_name="phi-bot", standalone_mode=False)


@pytest.mark.server
def test_a_fork_that_was_deleted_is_said_to_be(github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps(changed(HAS_RUN, ("workflow_run", "head_repository"), None)))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(file))
    with pytest.raises(ApprovalError, match=r"the fork with a{12} was deleted.* workflow_run\.head_repository is null"):
        cli.main(list(COMMANDS[WorkflowRun]), prog_name="phi-bot", standalone_mode=False)
    assert github.seen == []
