"""The shipped texts are what they are meant to be: varied, well-formed, and held out."""

import re
import shutil
import unicodedata
from pathlib import Path

import pytest

from bot import texts
from bot.formats.registry import Format, all_formats
from bot.worker.own import CUT_NUMBERS
from bot.worker.sample.dialogue import conversations

KINDS = ("prose", "dialogue", "code", "maths", "languages")


def test_the_tokenizer_texts_cover_the_difficulties_of_tokenizers() -> None:
    plain = texts.tokenizer()
    assert len(plain) >= 300
    strings = plain + [text for of_kind in texts.unusual().values() for text in of_kind]
    assert len(set(strings)) == len(strings)
    assert {"", " ", "\n", "\r\n", "\t"} <= set(strings)
    everything = "".join(strings)
    for script in (
        *("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "ARABIC", "HEBREW", "SYRIAC", "THAANA", "ETHIOPIC"),
        *("DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "GUJARATI", "GURMUKHI", "SINHALA"),
        *("THAI", "LAO", "MYANMAR", "KHMER", "TIBETAN", "MONGOLIAN", "HANGUL", "HIRAGANA", "KATAKANA", "CJK"),
    ):
        assert any(unicodedata.name(c, "").startswith(script) for c in everything), script
    assert "\u200d" in everything, "a ZWJ sequence"
    assert "\U0001f3fd" in everything, "a skin tone"
    assert "\U0001f1f3\U0001f1f4" in everything, "a flag"
    assert "e\u0301" in everything, "a combining mark"
    for token in ("<|end|>", "<|im_end|>", "<|endoftext|>", "<|tool|>", "<think>", "<s>"):
        assert any(token in s and s != token for s in strings), token
    assert max(map(len, strings)) >= 3000


def test_unusual_texts_have_a_kind_and_stand_there_alone() -> None:
    kinds = texts.unusual()
    assert all(kinds.values())
    strings = [text for of_kind in kinds.values() for text in of_kind]
    assert len(set(strings)) == len(strings)
    assert not set(strings) & set(texts.tokenizer())
    for text in strings:
        text.encode("utf-8")  # no unpaired surrogates


@pytest.mark.parametrize("form", all_formats().values(), ids=all_formats())
def test_texts_that_a_format_reads_differently_are_kinds_of_text(form: Format) -> None:
    kinds = {*texts.unusual(), texts.DROPPED_BEFORE, texts.DROPPED_BEHIND, CUT_NUMBERS, texts.WITH_TOOLS}
    for vocabulary in (32064, 100352, 200064):
        assert form.read_differently({"vocab_size": vocabulary}).keys() <= kinds


def test_the_evaluation_text_is_held_out() -> None:
    seen = {run for d in texts.training() for run in _runs(d)}
    assert not seen & _runs(texts.evaluation())


def test_the_evaluation_text_is_long_enough_for_a_switch_at_4096_positions() -> None:
    # Even the largest vocabularies make no more than some five characters one token.
    assert len(texts.evaluation()) / 5 > 4096 + 256


def test_each_kind_of_text_fills_its_windows() -> None:
    by_kind = texts.evaluation_by_kind()
    assert set(by_kind) == set(KINDS)
    for kind, text in by_kind.items():
        assert len(text) / 5 > 2 * 256, kind


def test_the_kinds_together_are_the_whole_text() -> None:
    whole = texts.evaluation()
    assert "%%" not in whole
    assert sorted(whole.split()) == sorted(" ".join(texts.evaluation_by_kind().values()).split())


@pytest.mark.parametrize(
    ("kind", "beginning"),
    [("code", "```"), ("dialogue", "User: "), ("maths", "Problem. "), ("languages", "Als der Regen")],
)
def test_documents_are_sorted_by_kind(kind: str, beginning: str) -> None:
    assert texts.evaluation_by_kind()[kind].startswith(beginning)


def test_the_sample_is_taught_the_questions_of_the_prompts() -> None:
    taught = {m["content"].removeprefix("And ").lower() for c in conversations(500, seed=0) for m in c}
    for conversation in texts.prompts():
        assert conversation[-1]["role"] == "user"
        assert conversation[-1]["content"].removeprefix("And ").lower() in taught


def test_the_conversations_cover_the_branches_of_templates() -> None:
    chats = texts.conversations()
    assert len({c["name"] for c in chats}) == len(chats)
    roles = {tuple(m["role"] for m in c["messages"]) for c in chats}
    assert ("user",) in roles
    assert ("system", "user") in roles
    assert ("user", "assistant", "user", "assistant", "user") in roles
    assert {c["add_generation_prompt"] for c in chats} == {True, False}
    assert any(c["tools"] for c in chats)
    said = [m["content"] for c in chats for m in c["messages"]]
    assert any(s != s.strip() for s in said)
    assert any("<|end|>" in s for s in said)
    assert any("🙂" in s for s in said)


def test_the_sample_is_taught_some_of_the_answers() -> None:
    taught = {m["content"] for c in conversations(500, seed=0) for m in c if m["role"] == "assistant"}
    answers = {m["content"] for c in texts.conversations() for m in c["messages"] if m["role"] == "assistant"}
    assert len(taught & answers) >= 3


@pytest.mark.parametrize("name", ["evaluation.txt", "tokenizer.json", "conversations.json", "prompts.json"])
def test_the_digest_is_of_everything_that_is_measured_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = texts.digest()
    monkeypatch.setattr(texts, "_FOLDER", shutil.copytree(Path(texts.__file__).parent, tmp_path / "texts"))
    assert texts.digest() == before
    with (tmp_path / "texts" / name).open("a") as file:
        file.write("\n")
    assert texts.digest() != before


def test_the_training_text_has_no_combining_marks() -> None:
    # ONNX Runtime's tokenizer splits words at them, so a piece that holds one would never be found.
    assert not [c for d in texts.training() for c in d if unicodedata.category(c).startswith("M")]


def _runs(text: str, length: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
