"""One token, one id, one row: in whichever files of a source it stands."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import ConfigValueError, DamagedTokenizerError
from bot.records.artifacts import Json
from bot.source.tokens import check_tokens, flag_notes, possible_ids, template_notes

ROWS = 10
CONFIG = {"vocab_size": ROWS}


def folder_of(folder: Path, **files: Json) -> Path:
    """A folder with JSON files, named without their suffix."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def named(file: str, token: str, number: int) -> dict[str, Json]:
    """A file that gives a token an id, in the way of that file."""
    of: dict[str, dict[str, Json]] = {
        "vocabulary": {"tokenizer": {"model": {"vocab": {token: number}}}},
        "tokenizer": {"tokenizer": {"added_tokens": [{"content": token, "id": number}]}},
        "tokenizer_config": {"tokenizer_config": {"added_tokens_decoder": {str(number): {"content": token}}}},
        "added_tokens": {"added_tokens": {token: number}},
        "vocab": {"vocab": {token: number}},
    }
    return of[file]


FILES = ("vocabulary", "tokenizer", "tokenizer_config", "added_tokens", "vocab")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("number", [ROWS, ROWS + 1, 10**9])
def test_a_token_without_a_row_is_named_with_its_id_and_the_number_of_rows(
    tmp_path: Path, file: str, number: int
) -> None:
    folder_of(tmp_path, **named(file, "<PAD>", number))
    with pytest.raises(DamagedTokenizerError) as caught:
        check_tokens(tmp_path, CONFIG)
    name = "tokenizer" if file == "vocabulary" else file
    assert caught.value.message == (
        f"{name}.json gives the token '<PAD>' the id {number}, and the model has 10 rows (vocab_size in config.json)"
    )


@pytest.mark.parametrize("one", FILES)
@pytest.mark.parametrize("other", FILES[1:])
def test_files_that_disagree_are_both_named(tmp_path: Path, one: str, other: str) -> None:
    if one == other or {one, other} == {"vocabulary", "tokenizer"}:  # of one file: the test below
        return
    a, b = ("tokenizer" if f == "vocabulary" else f for f in sorted([one, other], key=FILES.index))
    folder_of(tmp_path / "ids", **named(one, "<a>", 3), **named(other, "<a>", 4))
    with pytest.raises(DamagedTokenizerError, match=rf"^{a}\.json gives the token '<a>' the id \d, and {b}\.json"):
        check_tokens(tmp_path / "ids", CONFIG)
    folder_of(tmp_path / "tokens", **named(one, "<a>", 3), **named(other, "<b>", 3))
    with pytest.raises(DamagedTokenizerError, match=rf"^{a}\.json gives the id 3 to the token '<.>', and {b}\.json to"):
        check_tokens(tmp_path / "tokens", CONFIG)
    folder_of(tmp_path / "same", **named(one, "<a>", 3), **named(other, "<a>", 3))
    check_tokens(tmp_path / "same", CONFIG)


def test_a_tokenizer_that_disagrees_with_itself_is_refused(tmp_path: Path) -> None:
    added = {"model": {"vocab": {"<|placeholder1|>": 3}}, "added_tokens": [{"content": "<tool_call>", "id": 3}]}
    with pytest.raises(DamagedTokenizerError, match=r"the id 3 to the token '<\|placeholder1\|>'.*'<tool_call>'"):
        check_tokens(folder_of(tmp_path, tokenizer=added), CONFIG)


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"vocab_size": "many"}])
def test_rows_that_config_does_not_say_bound_nothing(tmp_path: Path, config: dict[str, Json]) -> None:
    check_tokens(folder_of(tmp_path, **named("tokenizer", "<a>", 10**9)), config)


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", ["2", "<s>", [1, "2"], [None], [[1]], {"id": 1}, 1.5, True])
def test_an_id_in_generation_config_that_is_none_is_refused(tmp_path: Path, key: str, value: Json) -> None:
    if value == [None]:
        check_tokens(folder_of(tmp_path, generation_config={key: value}), CONFIG)
        return
    with pytest.raises(ConfigValueError, match=rf"^generation_config\.json: {key} has .*, which is not a token's id"):
        check_tokens(folder_of(tmp_path, generation_config={key: value}), CONFIG)


@pytest.mark.parametrize(
    ("given", "left"),
    [(-1, None), (ROWS, None), (3, 3), (None, None), ([3, 32007], [3]), ([-1], None), ([1, 2], [1, 2])],
)
@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "pad_token_id"])
def test_an_id_of_no_row_is_ignored_with_a_note(given: Json, left: Json, key: str) -> None:
    out, notes = possible_ids("generation_config.json", {key: given, "other": -1}, ROWS)
    assert out == {key: left, "other": -1}
    assert len(notes) == (given != left)
    assert all(note.startswith(f"generation_config.json: {key} names ") and "model's 10;" in note for note in notes)


@pytest.mark.parametrize(
    ("jinja", "key", "beside", "ignored"),
    [
        ("a", None, None, []),
        ("a", "a", "a", []),
        ("a", "b", None, ["tokenizer_config.json has another"]),
        ("a", [{"name": "default", "template": "a"}], None, ["tokenizer_config.json has another"]),
        (None, "b", "b", []),
        (None, "b", "c", ["chat_template.json"]),
        (None, None, "c", ["chat_template.json"]),
        ("a", "b", "c", ["tokenizer_config.json has another", "chat_template.json"]),
    ],
)
def test_a_template_that_does_not_count_is_told(
    tmp_path: Path, jinja: str | None, key: Json, beside: Json, ignored: list[str]
) -> None:
    folder_of(tmp_path, tokenizer_config={"chat_template": key}, chat_template={"chat_template": beside})
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja)
    notes = template_notes(tmp_path)
    assert len(notes) == len(ignored)
    assert all(words in note for words, note in zip(ignored, notes, strict=True))


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "normalized", "single_word", "special"])
def test_flags_that_two_files_say_differently_are_told(tmp_path: Path, flag: str) -> None:
    added = [{"content": "<a>", "id": 1, flag: True}, {"content": "<b>", "id": 2, flag: True}]
    decoder: Json = {"1": {"content": "<a>", flag: False}, "2": {"content": "<b>", flag: True}, "3": {"content": "<c>"}}
    folder_of(tmp_path, tokenizer={"added_tokens": added}, tokenizer_config={"added_tokens_decoder": decoder})
    (note,) = flag_notes(tmp_path)
    assert note.endswith("tokenizer.json has other flags for '<a>'")
    decoder["1"][flag] = True
    folder_of(tmp_path, tokenizer_config={"added_tokens_decoder": decoder})
    assert flag_notes(tmp_path) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(fast=_JSON, added=_JSON, decoder=_JSON, config=_JSON, rows=_JSON)
def test_whatever_the_files_hold_nothing_else_is_raised(
    tmp_path_factory: pytest.TempPathFactory, fast: Json, added: Json, decoder: Json, config: Json, rows: Json
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tokens"
    folder_of(
        folder,
        tokenizer={"model": fast, "added_tokens": added},
        tokenizer_config={"added_tokens_decoder": decoder},
        generation_config={"eos_token_id": config},
    )
    with contextlib.suppress(DamagedTokenizerError, ConfigValueError):
        check_tokens(folder, {"vocab_size": rows})
    flag_notes(folder)
    possible_ids("config.json", {"eos_token_id": config}, rows)
