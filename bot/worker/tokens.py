"""A checkpoint's tokenizer, and the tokens at which generating has to stop."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.worker.harness import ConfigProblem, NotTaken, TokenizerProblem, error_line

_VOCABULARIES = ("tokenizer.json", "tokenizer.model")  # some transformers make an empty tokenizer of neither
_SHOWN = 60  # characters of a token in a message
_REASON = 200  # characters of another library's error that are passed on
_TURN_ENDS = ("<|end|>", "<|im_end|>")  # how Phi's chat templates end a turn


def read_tokenizer(source: Path) -> Any:
    """Return transformers' tokenizer of the checkpoint in a folder.

    Raises TokenizerProblem if there is none, and NotTaken if this toolchain's transformers cannot read it, or
    config.json, which it asks for the kind of tokenizer.
    """
    if not any((source / name).exists() for name in _VOCABULARIES):
        raise TokenizerProblem(f"the tokenizer cannot be read: there is neither {' nor '.join(_VOCABULARIES)}")
    from transformers import AutoConfig, AutoTokenizer

    for what, kind in (("config.json", AutoConfig), ("the tokenizer", AutoTokenizer)):
        try:
            read = kind.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            reason = error_line(error).replace(f"{source}/", "")[:_REASON]
            raise NotTaken(f"{what} cannot be read: {reason}") from error
    _check_ids(source, read)
    return read


def _check_ids(source: Path, tokenizer: Any) -> None:
    """Raise TokenizerProblem for a token without a row, or with another id than tokenizer.json says.

    bot/source/tokens.py holds the files against each other; what transformers makes of them it alone knows: it adds the
    tokens that tokenizer_config.json names and no other file, and gives some another id than stands there.
    """
    rows = json.loads((source / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    ids = tokenizer.get_vocab()
    if not ids or type(rows) is not int:
        return
    last = max(ids, key=ids.__getitem__)
    if ids[last] >= rows:
        raise TokenizerProblem(
            f"the tokenizer gives the token {last[:_SHOWN]!a} the id {ids[last]}, and the model has {rows} rows "
            "(vocab_size in config.json)"
        )
    path = source / "tokenizer.json"
    added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens") if path.exists() else None
    for token in added or ():
        if ids.get(token["content"], token["id"]) != token["id"]:
            raise TokenizerProblem(
                f"tokenizer.json gives the token {token['content'][:_SHOWN]!a} the id {token['id']}, and transformers, "
                f"which goes on from the last one of the vocabulary, the id {ids[token['content']]}"
            )


def stop_ids(source: Path, tokenizer: Any) -> list[int]:
    """Return the ids at which generating has to stop: those the checkpoint names, then the one that ends a turn.

    Many fine-tunes come without generation_config.json; with what config.json names alone, ``<|endoftext|>``, a chat
    then goes on for ever. Raises ConfigProblem for a generation_config.json that is not a JSON object.
    """
    ids = [*_named(source / "generation_config.json"), *_named(source / "config.json")]
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    added = tokenizer.get_added_vocab()
    ids += [added[token] for token in _TURN_ENDS if token in added and token in template]
    return list(dict.fromkeys(ids))


def with_stop_ids(given: Json, ids: Iterable[int]) -> list[int]:
    """Return a config's ``eos_token_id`` (an id, a list of them, or None) as a list, with the missing ids behind."""
    return list(dict.fromkeys([*_ids(given), *ids]))


def stopping_at(config: dict[str, Json], ids: Iterable[int]) -> dict[str, Json]:
    """Return a config whose ``eos_token_id`` has all of the ids; the same one where it had them."""
    given = config.get("eos_token_id")
    wanted = with_stop_ids(given, ids)
    return config if wanted == with_stop_ids(given, ()) else config | {"eos_token_id": wanted}


def _named(path: Path) -> list[int]:
    if not path.exists():
        return []
    try:
        return _ids(json.loads(path.read_text(encoding="utf-8")).get("eos_token_id"))
    except (ValueError, AttributeError) as error:
        raise ConfigProblem(f"{path.name} is malformed: {error}") from error


def _ids(value: Json) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
