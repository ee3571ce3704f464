"""The shipped texts are what they are meant to be: varied, well-formed, and held out."""

import re
import unicodedata

from bot import texts
from bot.workers.sample_dialogue import conversations


def test_the_tokenizer_texts_cover_what_tokenizers_stumble_over() -> None:
    strings = texts.tokenizer()
    assert len(strings) >= 120
    assert len(set(strings)) == len(strings)
    assert {"", " ", "\n", "\r\n", "\t"} <= set(strings)
    everything = "".join(strings)
    for script in ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "HANGUL", "HIRAGANA", "CJK"):
        assert any(unicodedata.name(c, "").startswith(script) for c in everything), script
    assert "\u200d" in everything, "a ZWJ sequence"
    assert "<|end|>" in everything
    assert max(map(len, strings)) >= 2000


def test_the_tokenizer_texts_can_be_handed_to_any_runtime() -> None:
    for text in texts.tokenizer():
        text.encode("utf-8")  # no unpaired surrogates
        assert "\0" not in text, "ONNX Runtime GenAI takes C strings"
        assert not re.search("<0x[0-9A-F]{2}>", text), "openvino_tokenizers reads this as a byte"


def test_the_evaluation_text_is_held_out() -> None:
    seen = {run for d in texts.training() for run in _runs(d)}
    assert not seen & _runs(texts.evaluation())


def test_the_evaluation_text_is_long_enough_for_a_switch_at_4096_positions() -> None:
    # Even the largest vocabularies make no more than some five characters one token.
    assert len(texts.evaluation()) / 5 > 4096 + 256


def test_the_sample_is_taught_what_the_prompts_ask() -> None:
    taught = {m["content"].removeprefix("And ").lower() for c in conversations(500, seed=0) for m in c}
    for conversation in texts.prompts():
        assert conversation[-1]["role"] == "user"
        assert conversation[-1]["content"].removeprefix("And ").lower() in taught


def test_the_training_text_has_no_combining_marks() -> None:
    # ONNX Runtime's tokenizer splits words at them, so a piece that holds one would never be found.
    assert not [c for d in texts.training() for c in d if unicodedata.category(c).startswith("M")]


def _runs(text: str, length: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
