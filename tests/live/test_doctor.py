"""``phi-bot doctor --live`` as a person sees it: what it asks, what it never touches, what it says."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.cli import _main
from bot.errors import HubRefusedError
from bot.hub import scratch
from bot.hub.client import connect
from bot.live.hub_calls import HubCalls
from bot.live.scratch import Scratch
from bot.localhub import RunningHub
from bot.localhub.tokens import Grant
from tests import page_reader
from tests.hub.faulty import Fault, Proxy
from tests.live.test_live import ALL

COMMAND = ("doctor", "--live", "--namespace", "me")


class Person:
    """Somebody at a command line, with a token of an embedded Hub's, through a proxy that may break answers."""

    def __init__(self, hub: RunningHub, capsys: pytest.CaptureFixture[str]) -> None:
        self.hub, self._capsys = hub, capsys
        self.api = HfApi(endpoint=hub.url, token=hub.token)

    def doctor(self, *more: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = _main([*COMMAND, *more])
        return code, *self._capsys.readouterr()

    def rows(self, *more: str) -> dict[str, dict[str, str]]:
        _, out, _ = self.doctor("--json", *more)
        return {row["call"]: row for row in json.loads(out)}

    def left(self) -> list[str]:
        return scratch.leftovers(connect(self.hub.url, self.hub.token), "me")


@pytest.fixture
def person(
    hub: RunningHub, faulty: Proxy, at_once: None, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Person]:  # fmt: skip
    for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "ACTIONS_ID_TOKEN_REQUEST_URL", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HF_ENDPOINT": faulty.url, "HF_TOKEN": hub.token, "PHI_BOT_CACHE": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield Person(hub, capsys)
    signal.signal(signal.SIGTERM, handler)


def test_a_dry_run_says_what_it_would_call_and_asks_nothing(person: Person, faulty: Proxy) -> None:
    code, out, err = person.doctor("--dry-run")
    assert code == 0
    assert [line for call in ALL for line in out.splitlines() if f" {call} " in line]
    assert out.count("a dry run") == len(ALL)
    assert "Nothing was asked" in err
    assert faulty.seen == []


def test_the_table_is_plain_lines_in_a_pipe(person: Person) -> None:
    code, out, _ = person.doctor("--only", "make a repo")
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["call", "expected", "seconds", "seen"]
    assert [re.split(" {2,}", line)[:2] for line in lines] == [
        ["ok", "token"], ["ok", "make a repo"], ["ok", "remove scratch"],
    ]  # fmt: skip
    assert "\x1b" not in out
    assert person.left() == []


def test_without_a_namespace_nothing_is_tried(person: Person, faulty: Proxy) -> None:
    assert _main(["doctor", "--live"]) == 2
    assert faulty.seen == []


def test_a_name_that_is_not_a_call_is_a_wrong_setting(person: Person, faulty: Proxy) -> None:
    code, _, err = person.doctor("--only", "everything")
    assert code == 10
    assert "'everything' is not a call that is tried" in err
    assert faulty.seen == []


def test_a_wrong_token_fails_what_needs_one_and_lists_all_the_same(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = person.hub.hub.tokens.make_for(Grant(name="me", scope="read", namespaces=()))
    monkeypatch.setenv("HF_TOKEN", token)
    code, out, err = person.doctor()
    assert code == 46
    assert "the token of me may only read" in out
    assert "token: Make a token that may write to the repos of me, and set HF_TOKEN to it." in out
    assert re.search(r"^ok +list of publications ", out, re.MULTILINE)
    assert re.search(r"^not tried +make a repo .* it needs: token *$", out, re.MULTILINE)
    assert token not in out + err


def test_where_trusted_publishers_publish_no_token_is_a_note(
    person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    only = ("--only", "make a repo", "--only", "state")
    assert person.rows(*only)["token"]["status"] == "failed"
    (tmp_path / "phi-bot.toml").write_text("publish.trusted_publishers = true\n")
    code, out, _ = person.doctor("--json", *only)
    rows = {row["call"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["token"]["status"] == "note"
    assert "Without this call, scratch repos cannot be made." in rows["token"]["what_to_do"]
    assert [rows[call]["status"] for call in ("make a repo", "state")] == ["not tried", "not tried"]


def test_a_collection_that_is_not_the_doctors_is_not_removed(person: Person) -> None:
    slug = person.api.create_collection("mine", namespace="me").slug
    with pytest.raises(HubRefusedError, match="is not removed"):
        scratch.remove(connect(person.hub.url, person.hub.token), f"collections/{slug}")
    assert person.api.get_collection(slug).title == "mine"


def test_a_collection_whose_slug_was_lost_is_found_however_the_hub_spells_it(person: Person) -> None:
    run = Scratch(hub=connect(person.hub.url, person.hub.token), namespace="ME")
    slug = person.api.create_collection(run.name, namespace="me", private=True).slug
    run.begun.append(f"collections/ME/{run.name}")
    assert run.remove() == f"collections/{slug}"
    assert person.left() == []


def test_no_token_is_printed_whatever_the_hub_says(person: Person, faulty: Proxy) -> None:
    said = json.dumps({"error": f"who is {person.hub.token}?"}).encode()
    faulty.faults.append(
        Fault(method="GET", path="whoami", status=403, body=said, headers={"Content-Type": "application/json"})
    )
    for more in ((), ("--json",)):
        code, out, err = person.doctor(*more)
        assert code == 46
        assert "who is" in out
        assert person.hub.token not in out + err


def test_scratch_of_a_killed_run_is_named_and_not_touched(person: Person) -> None:
    left = [f"me/{scratch.PREFIX}0123456789abcdef", f"datasets/me/{scratch.PREFIX}0123456789abcdef-state"]
    person.api.create_repo(left[0], private=True)
    person.api.create_repo(left[1].removeprefix("datasets/"), repo_type="dataset", private=True)
    slug = person.api.create_collection(f"{scratch.PREFIX}0123456789abcdef", namespace="me", private=True).slug
    code, out, _ = person.doctor()
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("note"))
    assert all(name in out for name in (*left, slug))
    assert "old scratch" in row
    assert sorted(person.left()) == sorted([*left, f"collections/{slug}"])


def test_a_repo_that_was_there_is_never_touched(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever name is drawn: one that is there already is not written to and not removed."""
    monkeypatch.setattr("bot.live.scratch.secrets.token_hex", lambda count: "ab" * count)
    taken = f"me/{scratch.PREFIX}{'ab' * 8}"
    for name, kind in ((taken, "model"), (f"{taken}-copy", "model"), (f"{taken}-state", "dataset")):
        person.api.create_repo(name, repo_type=kind)
    before = [person.api.repo_info(taken).sha, person.api.repo_info(f"{taken}-state", repo_type="dataset").sha]
    rows = person.rows("--only", "state", "--only", "make a repo")
    assert [rows[call]["status"] for call in ("make a repo", "state", "remove scratch")] == [
        "failed", "failed", "not tried",
    ]  # fmt: skip
    assert "is there already" in rows["make a repo"]["seen"]
    after = [person.api.repo_info(taken).sha, person.api.repo_info(f"{taken}-state", repo_type="dataset").sha]
    assert after == before


@pytest.mark.parametrize("call", ["upload", "merge", "whoami"])
def test_ctrl_c_removes_scratch_and_shows_what_was_seen(
    person: Person, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def interrupted(_: HubCalls) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HubCalls, call, interrupted)
    code, out, err = person.doctor()
    assert code == 130
    assert "interrupted" in err
    assert re.search(r"^not tried +GitHub: repository .* the run was interrupted before *$", out, re.MULTILINE)
    assert person.left() == []


def test_a_second_ctrl_c_names_what_may_be_left(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HubCalls, "first_commit", interrupted)
    monkeypatch.setattr(scratch, "remove", interrupted)
    code, _, err = person.doctor()
    assert code == 130
    (left,) = person.left()
    assert f"May be left in me: {left}" in err


def test_a_create_whose_answer_was_lost_is_removed_too(person: Person, faulty: Proxy) -> None:
    faulty.faults.append(Fault(method="POST", path="/api/repos/create", lose=True))
    rows = person.rows("--only", "make a repo")
    assert rows["make a repo"]["status"] == "failed"
    assert "me/phi-bot-doctor-scratch-" in rows["remove scratch"]["seen"]
    assert person.left() == []


def test_every_call_of_the_page_is_tried_or_says_why_not() -> None:
    page = (page_reader.ROOT / "docs" / "hub-calls.md").read_text(encoding="utf-8")
    section = page_reader.sections(page_reader.ROOT / "docs" / "hub-calls.md")
    rows = page_reader.tables(section["Which calls are repeated, and how often"])[0]
    known = {call.partition(" me/")[0] if call.startswith("Trusted") else call for call in ALL}
    assert len(rows) >= 16, page[:100]
    for row in rows:
        tried = [name.removesuffix(" …") for name in re.findall(r"\*([^*]+)\*", row[-1])]
        assert set(tried) <= known, row
        assert tried or row[-1].startswith("no: "), row
