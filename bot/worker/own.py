"""Texts made of a checkpoint's own added tokens: what the shipped texts, which are the same for all, cannot try.

A tune's tokens are what its users meet in every answer (``<tool_call>``, ``<think>``), and runtimes know the flags of
an added token (white space dropped beside it, matched in normalized text, as a word alone) in part or not at all.
"""

import json
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bot.texts import DROPPED_BEFORE, DROPPED_BEHIND, KEPT, OWN

#: A kind of the shipped texts that there is for some tokenizers alone.
CUT_NUMBERS = "a space before a number in other signs than 0 to 9, where digits are cut one by one"

_TOKENS = 24  # of which texts are made one by one; a tokenizer may have thousands
_CHAIN = 32  # tokens in each text that has all of them in it
_CHAINED = 8_192  # tokens that such texts are made of
_LONGEST = 1_000  # characters of a token that is tried: Phi's longest has 31

_BARE = ("{t}", "one{t}two", "é{t}ß", "{t}{t}", "({t})", "one{t}{u}two", "{u}one{t}", "12{t}34", "<{t}>")
_BEFORE = ("one {t}two", " {t}", "one\n\n{t}", "one  {t}({t})")
_BEHIND = ("{t} two", "one{t}  two", '{t}\n{{"a": 1}}', "{t}\n\n\ttwo")
_BESIDE = ("one {t} two", 'one\n{t}\n{{"a": 1}}', "{t} {t}\n{u} two")


def own_texts(tokenizer: Any) -> dict[str, list[str]]:
    """Return texts with a tokenizer's own added tokens, by kind; a kind without a text is left out.

    Their number is bounded: about 24 tokens are tried one by one, some of every combination of flags, and all stand
    once in a few long texts. White space beside a token that only pads is not tried: no prompt has one.
    """
    added = {i: t for i, t in sorted(tokenizer.added_tokens_decoder.items()) if 0 < len(t.content) <= _LONGEST}
    chosen = _sample(list(added.values()))
    everything = [t.content for t in added.values()][:_CHAINED]
    chains = [everything[i : i + _CHAIN] for i in range(0, len(everything), _CHAIN)]
    kinds: dict[str, list[str]] = {
        OWN: _filled(_BARE, [t.content for t in chosen]) + ["x".join(chain) for chain in chains],
        **{kind: [] for kind in (KEPT, DROPPED_BEFORE, DROPPED_BEHIND)},
    }
    padding = _padding(tokenizer)
    for left in (False, True):
        for right in (False, True):
            alike = [t.content for t in chosen if (t.lstrip, t.rstrip) == (left, right) and t.content != padding]
            before, behind = DROPPED_BEFORE if left else KEPT, DROPPED_BEHIND if right else KEPT
            kinds[before] += _filled(_BEFORE, alike)
            kinds[behind] += _filled(_BEHIND, alike)
            kinds[before if left else behind] += _filled(_BESIDE, alike)
    return {kind: texts for kind, texts in kinds.items() if texts}


def shipped_texts(tokenizer: Any, strings: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the shipped strings that every runtime has to read as a tokenizer does, and the others by their kind.

    There are others where it cuts digits one by one before all else: what counts as a digit then, libraries differ in.
    """
    if not _cuts_digits(tokenizer):
        return list(strings), {}
    apart = [text for text in strings if _has_spaced_number(text)]
    return [text for text in strings if text not in apart], {CUT_NUMBERS: apart}


def _cuts_digits(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole = json.loads(backend.to_str())["pre_tokenizer"] if backend is not None else None
    steps = (whole.get("pretokenizers") or [whole]) if whole else []
    return any(step["type"] == "Digits" and step["individual_digits"] for step in steps)


def _has_spaced_number(text: str) -> bool:
    return any(a == " " and not b.isascii() and unicodedata.category(b).startswith("N") for a, b in pairwise(text))


def _sample(tokens: Sequence[Any]) -> list[Any]:
    """Return at most so many tokens that each combination of flags has its share: its first, its last, some between."""
    by_flags: dict[tuple[bool, ...], list[Any]] = {}
    for token in tokens:
        blank = token.content != token.content.strip()
        flags = (token.special, token.lstrip, token.rstrip, token.normalized, token.single_word, blank)
        by_flags.setdefault(flags, []).append(token)
    chosen: list[Any] = []
    for place, (_, group) in enumerate(sorted(by_flags.items(), key=lambda g: len(g[1]))):
        share = min(len(group), max((_TOKENS - len(chosen)) // (len(by_flags) - place), 1))
        chosen += [group[round(i * (len(group) - 1) / max(share - 1, 1))] for i in range(share)]
    return chosen


def _filled(patterns: Sequence[str], tokens: Sequence[str]) -> list[str]:
    """Return each pattern with each token in the place of ``t``, and the one after it in that of ``u``."""
    after = [*tokens[1:], *tokens[:1]]
    return [p.format(t=token, u=other) for token, other in zip(tokens, after, strict=True) for p in patterns]


def _padding(tokenizer: Any) -> str | None:
    """Return the token that does nothing but pad, or None: it is not another special token, and is in no template."""
    pad = tokenizer.pad_token
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, None}
    return None if pad in used or pad in str(tokenizer.chat_template) else str(pad)
