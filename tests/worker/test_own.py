"""Texts of a checkpoint's own tokens: every kind of token is tried, and their number is bounded."""

import itertools
import json
from dataclasses import dataclass, field

import pytest

from bot import texts
from bot.records.artifacts import Json
from bot.texts import DROPPED_BEFORE, DROPPED_BEHIND, KEPT, OWN
from bot.worker.own import CUT_NUMBERS, own_texts, shipped_texts


@dataclass(frozen=True)
class Token:
    content: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """What texts are made of in transformers' tokenizer."""

    tokens: list[Token]
    pad_token: str | None = None
    chat_template: str | None = None
    bos_token: str = "<s>"
    eos_token: str = "</s>"
    unk_token: str = "<unk>"
    added_tokens_decoder: dict[int, Token] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "added_tokens_decoder", dict(enumerate(self.tokens)))


def test_every_combination_of_flags_is_tried_beside_thousands_of_one_kind() -> None:
    rare = [Token(f"<rare{i}>", *flags) for i, flags in enumerate(itertools.product([False, True], repeat=5))]
    many = [Token(f"<many{i}>") for i in range(5_000)]
    found = own_texts(Tokenizer([*many[:2_500], *rare[1:], *many[2_500:]]))
    for token in rare[1:]:
        assert f"one{token.content}two" in found[OWN]
        assert f"one {token.content}two" in found[DROPPED_BEFORE if token.lstrip else KEPT]
        assert f"{token.content} two" in found[DROPPED_BEHIND if token.rstrip else KEPT]
        beside = DROPPED_BEFORE if token.lstrip else DROPPED_BEHIND if token.rstrip else KEPT
        assert f"one {token.content} two" in found[beside]
    assert "one<many0>two" in found[OWN]
    everything = "".join(found[OWN])
    assert all(t.content in everything for t in many)


@pytest.mark.parametrize("count", [1, 24, 100, pytest.param(100_000, marks=pytest.mark.large)])
def test_the_number_of_texts_is_bounded(count: int) -> None:
    found = own_texts(Tokenizer([Token(f"<t{i}>") for i in range(count)]))
    assert 10 <= sum(map(len, found.values())) <= 800
    assert found == own_texts(Tokenizer([Token(f"<t{i}>") for i in range(count)]))


def test_a_token_of_great_length_is_left_out() -> None:
    assert max(map(len, own_texts(Tokenizer([Token("x" * 10**6), Token("<t>")]))[OWN])) < 1_000


def test_white_space_is_tried_on_both_sides_of_a_token_doubled_and_beside_another() -> None:
    found = own_texts(Tokenizer([Token("<a>"), Token("<b>")]))
    assert {"<a>", "<a><a>", "one<a><b>two", "<b>one<a>"} <= set(found[OWN])
    assert {"<a> two", " <a>", 'one\n<a>\n{"a": 1}', "<a> <a>\n<b> two"} <= set(found[KEPT])
    assert not any(c.isspace() for text in found[OWN] for c in text)


def test_white_space_is_not_tried_beside_a_token_that_only_pads() -> None:
    pads = own_texts(Tokenizer([Token("<a>"), Token("<pad>")], pad_token="<pad>"))
    assert "one<pad>two" in pads[OWN]
    assert not any("<pad>" in text for text in pads[KEPT])
    for used in (Tokenizer([Token("<s>")], pad_token="<s>"), Tokenizer([Token("<a>")], "<a>", "{{ '<a>' }}")):
        assert KEPT in own_texts(used)


def test_a_tokenizer_without_added_tokens_gives_none() -> None:
    assert own_texts(Tokenizer([])) == {}


@dataclass(frozen=True)
class Cutting:
    """A tokenizer with a backend of which only the first step is asked."""

    pre_tokenizer: Json

    @property
    def backend_tokenizer(self) -> "Cutting":
        return self

    def to_str(self) -> str:
        return json.dumps({"pre_tokenizer": self.pre_tokenizer})


SINGLY = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel"}


@pytest.mark.parametrize("steps", [SINGLY, {"type": "Sequence", "pretokenizers": [SINGLY, BYTES]}])
def test_spaces_before_other_numbers_are_of_a_kind_where_digits_are_cut_one_by_one(steps: Json) -> None:
    strings = ["½ ¾", "x² + y²", "a 12", " Ⅳ", "10²³"]
    assert shipped_texts(Cutting(steps), strings) == (["x² + y²", "a 12", "10²³"], {CUT_NUMBERS: ["½ ¾", " Ⅳ"]})
    assert shipped_texts(Cutting(steps), texts.tokenizer())[1][CUT_NUMBERS], "the shipped ones have such texts"


@pytest.mark.parametrize(
    "steps", [None, BYTES, {"type": "Sequence", "pretokenizers": [SINGLY | {"individual_digits": False}]}]
)
def test_else_they_count_as_all_others(steps: Json) -> None:
    assert shipped_texts(Cutting(steps), ["½ ¾", "a"]) == (["½ ¾", "a"], {})


def test_so_they_do_for_a_tokenizer_without_a_backend() -> None:
    assert shipped_texts(Tokenizer([]), ["½ ¾"]) == (["½ ¾"], {})
