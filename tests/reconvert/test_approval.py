"""Who may ask for conversions by a label, and what a push after the label changes: nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bot.config import Config
from bot.config.places import ReconvertTable
from bot.errors import ApprovalError
from bot.github import Repository, client, open_repository
from bot.reconvert import approval
from bot.reconvert.approval import Approval, Labeling
from bot.records.artifacts import Proposal
from tests.github_server import GitHub, serve
from tests.pages.cards.examples import GGUF

A, B = "a" * 40, "b" * 40
CONFIG = Config(reconvert=ReconvertTable(models=("microsoft/Phi-9", "microsoft/Phi-9-mini")))
LABELING = Labeling(repository="o/r", number=7, head=A, label="convert:microsoft/Phi-9", sender="maintainer")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setattr(client, "_PAUSE", 0.0)
    with serve() as running:
        running.permissions = {"maintainer": ("write", "maintain"), "helper": ("read", "triage")}
        yield running


@pytest.fixture
def repository(server: GitHub) -> Repository:
    return open_repository("o/r", server.environ)


def labeling(**changes: Any) -> Labeling:
    return Labeling.from_json(LABELING.to_json() | changes)


def test_a_maintainers_label_is_noted_with_the_commit_it_was_set_at(server: GitHub, repository: Repository) -> None:
    made = approval.approve(repository, LABELING, CONFIG)
    assert made == Approval(head=A, models=("microsoft/Phi-9",), by="maintainer")
    assert approval.approval_of(repository, 7) == made
    assert approval.require(repository, 7, A) == made
    (comment,) = server.comments[7]
    assert "microsoft/Phi-9" in comment["body"]
    assert "@" not in comment["body"].replace("@\u2060", "")


def test_a_second_label_adds_a_model_and_a_new_commit_begins_anew(repository: Repository) -> None:
    approval.approve(repository, LABELING, CONFIG)
    both = approval.approve(repository, labeling(label="convert:microsoft/Phi-8"), CONFIG)
    assert both.models == ("microsoft/Phi-9", "microsoft/Phi-8")
    assert approval.approve(repository, labeling(head=B), CONFIG).models == ("microsoft/Phi-9",)


def test_the_label_for_all_stands_for_the_configured_models(repository: Repository) -> None:
    assert approval.approve(repository, labeling(label="convert:all"), CONFIG).models == CONFIG.reconvert.models
    with pytest.raises(ApprovalError, match="has no models to convert"):
        approval.models_of("convert:all", Config())


@pytest.mark.parametrize("sender", ["helper", "stranger"])
def test_the_label_of_who_may_not_write_is_taken_off(server: GitHub, repository: Repository, sender: str) -> None:
    with pytest.raises(ApprovalError, match=f"{sender} may not ask"):
        approval.approve(repository, labeling(sender=sender), CONFIG)
    assert ("DELETE", "/repos/o/r/issues/7/labels/convert%3Amicrosoft%2FPhi-9") in [seen[:2] for seen in server.seen]
    assert approval.approval_of(repository, 7) is None


def test_a_build_of_a_later_commit_is_not_proposed(repository: Repository) -> None:
    with pytest.raises(ApprovalError, match="nobody asked"):
        approval.require(repository, 7, A)
    approval.approve(repository, LABELING, CONFIG)
    with pytest.raises(ApprovalError, match="built from bbbbbbbbbbbb"):
        approval.require(repository, 7, B)


def test_a_note_that_a_stranger_wrote_is_none(server: GitHub, repository: Repository) -> None:
    note = json.dumps(Approval(head=B, models=("evil/Phi-9",), by="maintainer").to_json())
    server.add_comment(7, f"<!-- phi-bot: comment convert -->\n<!-- phi-bot: approved {note} -->", login="stranger")
    assert approval.approval_of(repository, 7) is None


@pytest.mark.parametrize(
    "label",
    [
        "convert:",
        "convert:Phi-9",
        "convert:a/b/c",
        "convert:../b",
        "convert:a/b c",
        "convert:a/$(b)",
        "convert:a/b\n--all",
        "convert:a/`b`",
        "CONVERT:a/b",
        "convert: a/b",
    ],
)
def test_a_label_that_names_no_model(label: str) -> None:
    with pytest.raises(ApprovalError, match="names no model"):
        approval.models_of(label, CONFIG)


def event(**changes: Any) -> dict[str, Any]:
    return {
        "action": "labeled",
        "repository": {"full_name": "o/r"},
        "pull_request": {"number": 7, "head": {"sha": A}},
        "label": {"name": "convert:microsoft/Phi-9"},
        "sender": {"login": "maintainer"},
    } | changes


def test_the_event_names_the_label_and_its_setter() -> None:
    assert Labeling.from_event(event()) == LABELING


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        event(action="synchronize"),
        event(sender=None),
        event(sender={"login": "a --> b"}),
        event(sender={"login": ["maintainer"]}),
        event(pull_request={"number": "7", "head": {"sha": A}}),
        event(pull_request={"number": 7, "head": {"sha": "main"}}),
        event(label="convert:all"),
    ],
)
def test_another_event_is_refused(wrong: Any) -> None:
    with pytest.raises(ApprovalError):
        Labeling.from_event(wrong)


def test_the_comment_names_the_candidates_and_how_to_try_them(server: GitHub, repository: Repository) -> None:
    made = approval.approve(repository, LABELING, CONFIG)
    url = "https://hub.example/me/Phi-9-GGUF/discussions/3"
    proposal = Proposal(repo_id="me/Phi-9-GGUF", number=3, url=url, builds=GGUF.builds[:1])
    approval.say(repository, 7, made, (proposal,))
    (comment,) = server.comments[7]
    assert url in comment["body"]
    assert "--revision refs/pr/3" in comment["body"]
    assert approval.approval_of(repository, 7) == made
