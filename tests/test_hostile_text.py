"""Text from strangers in everything that people read: what steers a terminal or turns a line round is never in it."""

import contextlib
import dataclasses
import io
import json
import re
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.action import outputs
from bot.cli import _bug, tables
from bot.errors import BuildError
from bot.github.release_issues import release_issues
from bot.localhub import RunningHub
from bot.pages import cards, templates
from bot.pages.markdown import is_web_address
from bot.pages.status import pages
from bot.pages.summary import render_summary
from bot.printable import is_hidden, json_text, logged, printable, shown
from bot.progress import Display
from bot.progress import display as display_of
from bot.publishing.compose import EMPTY
from bot.reconvert.approval import Approval
from bot.reconvert.render import render
from bot.records.artifacts import Artifact, Failure, Proposal, Publication, Record, Report, Staged
from bot.records.digests import digest_of
from bot.records.plans import Notice, Postponed, WatchedSources
from bot.source.prompt import Prompt
from bot.workspace import write_json
from tests.github.test_release_issues import PLAN, SEEN
from tests.markdown_reader import hostile_text
from tests.pages.cards.examples import GGUF, MLX, ONNX, OPENVINO, RELEASE
from tests.pages.status import examples as status
from tests.reconvert.examples import FULL

R = TypeVar("R")

# Overrides, isolates and marks of direction, controls of terminals, an invisible tag, line separators.
HIDDEN = "\u202e\u2066\u200f\u061c\x1b[2J\x07\x9b\x00\x7f\U000e0041\u2028\u2029\x85\r\ufeff"
hostile = st.one_of(
    hostile_text,
    st.text(st.sampled_from(HIDDEN) | st.characters(), max_size=12),
    st.builds("{}{}{}".format, hostile_text, st.sampled_from(HIDDEN), hostile_text),
)
URL = "https://huggingface.co/someone/x"


def poisoned(value: R, text: str, hint: Any = None) -> R:
    """Return a record in which text stands in every field that holds any text, however deep, unless it has a shape."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value), include_extras=True)
        fields = {f.name: poisoned(getattr(value, f.name), text, hints[f.name]) for f in dataclasses.fields(value)}
        return typing.cast("R", dataclasses.replace(value, **fields))
    if isinstance(value, str):
        plain = hint is str or hint is Any or hint == str | None
        return typing.cast("R", f"{value}{text}" if plain else value)
    inner = typing.get_args(hint)
    if isinstance(value, tuple):
        return typing.cast("R", tuple(poisoned(v, text, inner[0] if inner else None) for v in value))
    if isinstance(value, Mapping):
        return typing.cast("R", {k: poisoned(v, text, inner[1] if len(inner) > 1 else Any) for k, v in value.items()})
    return value


def hidden_in(text: str, *, lines: bool = True) -> list[str]:
    """Return what no reader sees of a text, beside the ends of its lines and tabs."""
    ours = re.sub("(?<=[@#])\u2060", "", text)  # that no name is called, and no issue referred to
    return [hex(ord(c)) for c in ours if is_hidden(c) and not (lines and c in "\n\t")]


# ---- which characters --------------------------------------------------------------------------------------------


@given(st.characters())
def test_hidden_characters_are_unicodes_control_and_format_ones_except_joiners(character: str) -> None:
    category = unicodedata.category(character)
    assert is_hidden(character) == (category in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in "\u200c\u200d")


@given(hostile)
def test_each_way_of_showing_text_leaves_nothing_hidden_in_it(text: str) -> None:
    assert not hidden_in(shown(text))
    assert not hidden_in(printable(text), lines=False)
    assert printable(printable(text)) == printable(text)
    if not hidden_in(text):
        assert shown(text) == text


def _values() -> st.SearchStrategy[Any]:
    whole = hostile.map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    leaves = st.none() | st.booleans() | st.integers() | whole
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(whole, inner, max_size=3), max_leaves=8
    )


@given(_values(), st.sampled_from([None, 1, 2]), st.booleans())
def test_json_is_the_same_value_and_hides_nothing(value: Any, indent: int | None, compact: bool) -> None:
    text = json_text(value, indent=indent, compact=compact)
    assert json.loads(text) == value
    assert not hidden_in(text)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert digest_of(json.loads(text)) == digest_of(value)


@given(hostile)
def test_no_address_hides_anything(text: str) -> None:
    address = f"https://example.com/{text}"
    assert not (is_web_address(address) and hidden_in(address, lines=False))


@given(hostile)
def test_another_programs_output_is_kept_as_lines_that_command_nothing(text: str) -> None:
    kept = logged(f"{text}\n ::{text}\n##[{text}")
    assert not hidden_in(kept)
    assert not re.search(r"(?m)^\s*::|##\[", kept)


def test_a_fault_of_the_bots_own_is_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    _bug(ValueError, ValueError(HIDDEN), None)
    printed = capsys.readouterr().err
    assert printed.startswith("ValueError: \\u202e")
    assert not hidden_in(printed)


# Those that make digests or compare, and those that are not part of the bot's own records.
_OTHERS = {"config/text.py", "pages/markdown.py", "printable.py"}
_OTHERS |= {"records/base.py", "records/digests.py", "records/json_text.py", "records/schema.py"}


def test_json_for_people_and_repos_is_written_by_one_function() -> None:
    bot = Path(cards.__file__).parents[2]
    files = [f for f in bot.rglob("*.py") if not {"worker", "localhub"} & set(f.relative_to(bot).parts)]
    raw = {f.relative_to(bot).as_posix() for f in files if "ensure_ascii=False" in f.read_text(encoding="utf-8")}
    assert raw <= _OTHERS


# ---- what is written ---------------------------------------------------------------------------------------------


def _report(text: str) -> Report:
    failure = Failure(release="a/b", variant="gguf/x", step="build", message="It broke", hint="Mend it", exit_code=43)
    builds = GGUF.builds
    made = Report(
        artifacts=(Artifact(folder="/x", build=builds[0].build, evidence=builds[0].evidence),),
        staged=(Staged(repo_id="me/s", commit="a" * 40, folder="f", build=builds[0].build),),
        proposals=(Proposal(repo_id="me/x", number=1, url=URL, builds=builds),),
        publications=(Publication(repo_id="me/x", commit="a" * 40, url=URL, created=True, builds=builds),),
        failures=(failure,),
    )
    return poisoned(made, text)


def _cards(text: str) -> Iterator[str]:
    said = {
        "license": f"mit{text}",
        "license_name": f"name{text}",
        "license_link": f"https://example.com/{text}",
        "language": [text, "en"],
        "tags": [text, f"a{text}"],
        "pipeline_tag": text,
        **{f"extra_gated_{key}": f"x{text}" for key in ("heading", "description", "prompt", "button_content")},
        "extra_gated_fields": {f"n{text}": "text", "Use": {"type": "select", "options": [f"o{text}"]}},
    }
    release = dataclasses.replace(poisoned(RELEASE, text), card=said, gated=True)
    for record in (GGUF, MLX, ONNX, OPENVINO):
        yield cards.render_card(
            record=poisoned(record, text),
            repo_id=f"me/x{text}",
            release=release,
            prompt=Prompt(text=f"hi {text}", problem=None),
            pictures=(),
            endpoint="https://huggingface.co",
        )


def _summaries(text: str) -> Iterator[str]:
    notice = Notice(repo_id=f"a/b{text}", what="new", text=text)
    planned = status.planned(status.release("phi-4"), "gguf/q4_k_m")
    later = Postponed(release=f"a/b{text}", planned=planned, why="bound", text=text)
    yield render_summary(_report(text), postponed=[poisoned(later, text)], notices=[notice])


def _issues(text: str) -> Iterator[str]:
    for issue in release_issues(_report(text), poisoned(PLAN, text), poisoned(SEEN, text), hub="https://h.co"):
        yield issue.title
        yield issue.text


def _pages(text: str) -> Iterator[str]:
    found = dataclasses.replace(poisoned(status.status(), text), made=status.NOW.isoformat())
    yield from (content.decode() for content in pages.render(found).values())


def _comments(text: str) -> Iterator[str]:
    yield render(poisoned(FULL, text))
    approval = Approval(head="a" * 40, models=("a/b",), by=f"x{text}")
    template = templates.environment().get_template("candidates.md.j2")
    yield template.render(approval=approval, proposals=_report(text).proposals, note="")


def _printed(text: str) -> Iterator[str]:
    report, out = _report(text), io.StringIO()
    watched = poisoned(
        WatchedSources(sightings=SEEN.sightings, notices=(Notice(repo_id="a/b", what="new", text="x"),)), text
    )
    with contextlib.redirect_stdout(out):
        tables.watched(watched)
        tables.artifacts(report.artifacts)
        tables.staged(report.staged)
        tables.proposals(report.proposals)
        tables.publications(report)
        tables.failures(report.failures)
        tables.plan(poisoned(PLAN, text))
        tables.evidence(report.artifacts[0])
    yield out.getvalue()


def _said(text: str) -> Iterator[str]:
    error, out = BuildError(f"it broke {text}", hint=text), io.StringIO()
    yield f"{error.message} {error.hint}"
    with contextlib.redirect_stderr(out):
        console: Display = display_of(quiet=False)
        console.say(f"a {text}")
        with console.task(f"t {text}") as task:
            task.update(f"w {text}", 1, 2, "bytes")
    yield out.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as annotated:
        outputs.error(f"m {text}", f"h {text}", title=printable(f"t {text}"))
    yield annotated.getvalue()


def _json(text: str) -> Iterator[str]:
    records: tuple[Record, ...] = (_report(text), poisoned(PLAN, text), poisoned(SEEN, text), poisoned(GGUF, text))
    yield from (json_text(record.to_json(), indent=2) for record in (*records, EMPTY))


WRITERS: tuple[Callable[[str], Iterator[str]], ...] = (
    _cards,
    _summaries,
    _issues,
    _pages,
    _comments,
    _printed,
    _said,
    _json,
)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda w: w.__name__.strip("_"))
@settings(max_examples=20)
@given(text=hostile)
@example(text=HIDDEN)
@example(text="\u202egpj.exe")
def test_nothing_that_people_read_hides_anything(writer: Callable[[str], Iterator[str]], text: str) -> None:
    for written in writer(text.encode("utf-8", "replace").decode()):
        assert written
        assert not hidden_in(written)


def test_a_record_in_a_repo_is_read_back_as_it_was(tmp_path: Path) -> None:
    record = poisoned(GGUF, "\u202e\u2066")
    write_json(tmp_path / "phi-bot.json", record.to_json())
    written = (tmp_path / "phi-bot.json").read_text(encoding="utf-8")
    assert "\\u202e\\u2066" in written
    assert type(record).from_json(json.loads(written)) == record


# ---- the embedded Hub's pages --------------------------------------------------------------------------------------


def page_of(address: str) -> str:
    answer = httpx2.get(address, trust_env=False, follow_redirects=True)
    assert answer.status_code == 200, address
    return answer.text


def test_pages_of_the_embedded_hub_show_hidden_characters_of_names_and_texts(hub: RunningHub) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("me/x")
    name, text = "a\u202etxt.exe", "before \u202eafter\u2066 \x1b[2J\n"
    operations = [CommitOperationAdd(name, text.encode()), CommitOperationAdd("README.md", f"# {text}".encode())]
    api.create_commit("me/x", operations=operations, commit_message="t\u202eitle", commit_description="d\u202e")
    for path in ("me/x", "me/x/tree/main", "me/x/commits/main", "me/x/blob/main/a%E2%80%AEtxt.exe", "me/x/discussions"):
        page = page_of(f"{hub.url}/{path}")
        assert not hidden_in(page), path
    assert "a\\u202etxt.exe" in page_of(f"{hub.url}/me/x/tree/main")
