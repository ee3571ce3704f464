"""The real model's tokenizer: byte-level BPE that cuts digits one by one, in the files that such models ship."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bot.records.artifacts import Json

_CONTROL = 3  # the type of tokens that stand for no text
_NAMED = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
_UNKNOWN = {"unk_token": "<|endoftext|>"}


def write(header: dict[str, Json], out: Path) -> None:
    """Write all files of the tokenizer that a file's header holds into the folder ``out``."""
    tokens, merges = header["tokenizer.ggml.tokens"], header["tokenizer.ggml.merges"]
    control = [t for t, kind in zip(tokens, header["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    vocabulary = {token: n for n, token in enumerate(tokens)}
    _whole(vocabulary, merges, control).save(str(out / "tokenizer.json"))
    _json(out / "vocab.json", vocabulary)
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(vocabulary[t]): {"content": t} | flags for t in control},
        "chat_template": header["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": header["llama.context_length"],
        "tokenizer_class": "GPT2Tokenizer",
    }
    _json(out / "tokenizer_config.json", config | _NAMED | _UNKNOWN)
    _json(out / "special_tokens_map.json", _NAMED | _UNKNOWN)


def _whole(vocabulary: dict[str, int], merges: list[str], control: list[str]) -> Tokenizer:
    """Return the tokenizer; its pre-tokenizer is the one that the header names ``smollm``."""
    made = Tokenizer(models.BPE(vocabulary, [tuple(m.split(" ")) for m in merges], fuse_unk=False))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    made.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made


def _json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
