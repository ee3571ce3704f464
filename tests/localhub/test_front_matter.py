"""The head of a card is read as the Hub reads it, and cannot hurt."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.localhub import front_matter


def card(head: str) -> str:
    return f"---\n{head}\n---\n# Body\n"


def test_head_and_body_are_told_apart() -> None:
    assert front_matter.split(card("license: mit")) == ("license: mit\n", "# Body\n")
    assert front_matter.split("# Body\n---\na: b\n---\n") == (None, "# Body\n---\na: b\n---\n")
    assert front_matter.split("---\r\na: b\r\n---\r\nx") == ("a: b\r\n", "x")


def test_values_are_those_of_yaml_1_2() -> None:
    found = front_matter.metadata(card("language: [no, en]\ndate: 2024-01-01\non: yes\nx: .nan\n1: true"))
    assert found == {"language": ["no", "en"], "date": "2024-01-01", "on": "yes", "x": "nan", "1": True}


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("a: [", "expected the node content"),
        ("- a", "not a mapping"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 1000, ""),
        ("license: [1]", '"license" must be'),
        ("language: 3", '"language" must be'),
        ("base_model: a b", '"base_model" must be'),
        ("base_model_relation: copied", '"base_model_relation" must be one of'),
        ("tags: phi", '"tags" must be'),
    ],
)
def test_wrong_heads(head: str, error: str) -> None:
    verdict = front_matter.judge(card(head))
    assert verdict.errors
    assert error in verdict.errors[0]
    assert "\n" not in verdict.errors[0]


@pytest.mark.parametrize("head", ["license: mit", "license: [mit, apache-2.0]", "language: en", "base_model: [a/b, c]"])
def test_right_heads(head: str) -> None:
    verdict = front_matter.judge(card(head))
    assert (verdict.errors, verdict.warnings) == ((), ())


def test_warnings() -> None:
    assert front_matter.judge("# No head").warnings == ("empty or missing yaml metadata in repo card",)
    assert front_matter.judge(card("license: other")).warnings == ('"license_name" is missing beside "license: other"',)


def test_a_few_lines_cannot_mean_gigabytes() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    started = time.monotonic()
    assert "aliases" in front_matter.judge(card(bomb)).errors[0]
    assert time.monotonic() - started < 1


@settings(deadline=None)
@given(st.text(max_size=200))
def test_whatever_comes_is_json_or_an_error(head: str) -> None:
    found = front_matter.metadata(card(head))
    json.dumps(found, allow_nan=False)
