"""The tokenizers of Phi-2, Phi-4 and Phi-4-mini: byte-level BPE on OpenAI's ranks, in all the files that they ship."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import AddedToken

from bot.records.artifacts import Json
from bot.worker.sample import ranks, templates, tokens
from bot.worker.sample.tokens import Mark

_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The properties of one of these tokenizers: ``config`` is what its tokenizer_config.json has beside the marks."""

    encoding: str
    marks: tuple[Mark, ...]
    config: dict[str, Json]
    listed: bool = False  #: in added_tokens.json too


def write(kind: Kind, longest: int, out: Path) -> None:
    """Write all files of a tokenizer into the folder ``out``; the model has ``longest`` positions."""
    vocabulary, merges = ranks.vocabulary_and_merges(kind.encoding)
    added = {m.content: m.id for m in kind.marks if m.content not in vocabulary}
    ranks.write_vocabulary(vocabulary, merges, out)
    # In the vocabulary too: an added token alone gets the next free id, and o200k leaves gaps before its own.
    whole = ranks.tokenizer(kind.encoding, vocabulary | added, merges, [_token(m) for m in kind.marks])
    whole.save(str(out / "tokenizer.json"))
    if kind.listed:
        _json(out / "added_tokens.json", dict(sorted(added.items())))
    decoder = {str(m.id): {"content": m.content} | _flags(m) for m in kind.marks}
    config = kind.config | {"added_tokens_decoder": decoder, "model_max_length": longest}
    _json(out / "tokenizer_config.json", dict(sorted(config.items())))
    _json(out / "special_tokens_map.json", {k: v for k, v in sorted(config.items()) if k in _NAMED})


def _token(mark: Mark) -> AddedToken:
    return AddedToken(mark.content, **_flags(mark))


def _flags(mark: Mark) -> dict[str, bool]:
    return {name: value for name, value in ({"single_word": False} | asdict(mark)).items() if name in _FLAGS}


def _json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
_END = "<|endoftext|>"
_GPT2: dict[str, Json] = {
    "add_prefix_space": False,
    "bos_token": _END,
    "clean_up_tokenization_spaces": False,
    "tokenizer_class": "GPT2Tokenizer",
    "unk_token": _END,
}
_TURNS: dict[str, Json] = _GPT2 | {"eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"}
_TOOLS: dict[str, Json] = _GPT2 | {
    "add_bos_token": False,
    "add_eos_token": False,
    "chat_template": templates.PHI_4_MINI,
    "eos_token": _END,
    "pad_token": _END,
}

PHI_2 = Kind(
    encoding="gpt2",
    marks=tokens.PHI_2,
    config=_GPT2
    | {
        "clean_up_tokenization_spaces": True,
        "eos_token": _END,
        "return_token_type_ids": False,
        "tokenizer_class": "CodeGenTokenizer",
    },
    listed=True,
)
PHI_4 = Kind(encoding="cl100k_base", marks=tokens.PHI_4, config=_TURNS | {"chat_template": templates.PHI_4})
PHI_4_REASONING = Kind(
    encoding="cl100k_base",
    marks=tokens.PHI_4_REASONING,
    config=_TURNS | {"chat_template": templates.PHI_4_REASONING},
)
PHI_4_MINI = Kind(encoding="o200k_base", marks=tokens.PHI_4_MINI, config=_TOOLS, listed=True)
PHI_4_MULTIMODAL = Kind(encoding="o200k_base", marks=tokens.PHI_4_MULTIMODAL, config=_TOOLS, listed=True)
