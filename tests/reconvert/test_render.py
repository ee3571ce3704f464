"""The comment: what it says, that it has room, and that nothing in it breaks out of its place."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.reconvert.records import CardDiff, Comparison, Difference, Rebuild, Rebuilds, SideMeasurement
from bot.reconvert.render import LARGEST, render
from tests import markdown_reader
from tests.markdown_reader import hostile_text
from tests.reconvert.examples import FULL, figure, measured, row

NOTHING = Comparison(version=1, kind="code", seconds=0.9)


def test_the_verdict_comes_first_in_one_line() -> None:
    lines = render(FULL).splitlines()
    assert lines[2] == (
        "**1 failed, 1 worse, 1 new, 1 the same within the error, 1 the same bytes.** "
        "Merging builds 3 variants of 2 models for demo: about 2 h 0 min of runners, \\$1.25."
    )


def test_figures_stand_before_and_after_with_their_errors() -> None:
    (first, *_), *_ = [t[1:] for t in markdown_reader.tables(render(FULL))]
    cells = [c.replace("&nbsp;", " ") for c in first]
    assert cells[:4] == ["`gguf/q4_k_m`", "Phi-3.5-mini", "worse", "2.2 MB → 2.1 MB (-4.5 %)"]
    assert cells[4:6] == ["0.00720 ± 0.00015 → 0.0150 ± 0.0003", "0.00635 ± 0.00030 → 0.00735 ± 0.00030"]
    assert "90.0&nbsp;±&nbsp;0.4&nbsp;%" in render(FULL)


def test_a_change_that_affects_nothing_is_one_line() -> None:
    text = render(NOTHING)
    assert "Affects nothing" in text
    assert len(text.splitlines()) == 3
    assert "the model is the same" in render(replace(NOTHING, kind="model"))


def test_without_a_namespace_it_names_the_variants_to_build_again() -> None:
    assert "one variant and all variants of onnx is built anew" in render(replace(FULL, rebuilds=None))
    gates = tuple(c for c in FULL.changes if c.what == "gate")
    assert "No publication is built anew." in render(replace(FULL, rebuilds=None, changes=gates))


def test_a_head_that_cannot_be_compared_says_why() -> None:
    text = render(replace(NOTHING, problem="the head cannot be read: SyntaxError: invalid syntax"))
    assert "**The head cannot be compared.**" in text
    assert markdown_reader.fences(text, "text") == ["the head cannot be read: SyntaxError: invalid syntax\n"]


def test_no_block_of_a_card_ends_the_fence_around_its_diff() -> None:
    diff = "+```\n+</details>\n+````text\n+# Heading\n"
    text = render(replace(FULL, cards=(CardDiff(format="gguf", diff=diff),)))
    assert markdown_reader.fences(text, "diff") == [diff + "\n"]


def test_a_comparison_of_a_thousand_files_has_room() -> None:
    reason = "it was too " + "large " * 200
    many = replace(
        FULL,
        rows=tuple(
            row(f"gguf/v{n}", None, SideMeasurement(status="failed", reason=f"{n} {reason}")) for n in range(1000)
        ),
        changes=tuple(
            Difference(what="config", name=f"key{n}", before="x" * 5000, after="y" * 5000) for n in range(1000)
        ),
        cards=tuple(CardDiff(format=f"f{n}", diff="+line\n" * 10_000) for n in range(100)),
        notes=tuple("note " * 1000 for _ in range(100)),
    )
    text = render(many)
    assert len(text) <= LARGEST
    assert "1000 failed" in text
    assert "more that do not fit here" in text
    assert text.count("<details>") == text.count("</details>")


def test_it_is_read_back_as_it_was_written() -> None:
    assert Comparison.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def hostile(text: str, number: float) -> Comparison:
    """A comparison in which every text is the same hostile one."""
    job = Rebuild(
        release=text, format=text, variants=(text,), reason="new", runner=text, seconds=abs(number), cost=number
    )
    return Comparison(
        version=1,
        kind="code",
        changes=(Difference(what="config", name=text, before=text, after=text),),
        rebuilds=Rebuilds(namespace=text, jobs=(job,), watched=(text,), unwatched=(text,)),
        rows=(
            row(text, None, SideMeasurement(status="failed", reason=text), model=text),
            row("a/b", None, measured(figure(1))),
        ),
        cards=(CardDiff(format=text, problem=text or "x"), CardDiff(format="x", diff=text or "x")),
        notes=(text,),
    )


@settings(max_examples=60)
@given(hostile_text)
def test_nothing_that_a_stranger_writes_is_markup(text: str) -> None:
    plain = hostile("a word", 1.0)
    rendered = render(hostile(f"a{text}", 1.0))
    assert markdown_reader.blocks(rendered) == markdown_reader.blocks(render(plain))
    links = [t for t in markdown_reader.inlines(rendered) if t.type in ("link_open", "image", "html_inline")]
    allowed = ("<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>")
    assert all(t.type == "html_inline" and t.content in allowed for t in links), links


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_any_figure_can_be_shown(one: float, other: float) -> None:
    found = row("gguf/a", measured(figure(one, other)), measured(figure(other, one), size=-5))
    assert render(replace(hostile("a", one), rows=(found,)))


@pytest.mark.parametrize("field", ["rows", "changes", "cards", "notes", "rebuilds"])
def test_each_part_may_be_missing(field: str) -> None:
    assert render(replace(FULL, **{field: None if field == "rebuilds" else ()}))  # type: ignore[arg-type]
