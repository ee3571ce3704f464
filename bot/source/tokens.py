"""The ids of a source model's tokens, over all files that name any, held against each other and the rows that it has.

Several files say the same thing, and each library reads another of them. What they say differently is found here,
before anything is built, and not by a library that reads past the end of a table.
"""

from collections.abc import Iterator
from pathlib import Path

from bot.errors import ConfigValueError, DamagedTokenizerError
from bot.records.artifacts import Json
from bot.source.strict import parse_object

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")  # keys of config.json and generation_config.json
_FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")
_SAID = 60  # characters of a token in a message


def check_tokens(folder: Path, config: dict[str, Json]) -> None:
    """Check that each token has one id in all files of a folder, and the model a row for it.

    Raises DamagedTokenizerError, naming the token, its id, the file and the number of rows, and ConfigValueError for an
    id in generation_config.json that is none. The files are those that ``check_tokenizer`` has found whole.
    """
    rows = config.get("vocab_size")
    ids: dict[str, tuple[int, str]] = {}
    tokens: dict[int, tuple[str, str]] = {}
    for file, token, number in _named(folder):
        if type(rows) is int and not 0 <= number < rows:
            raise DamagedTokenizerError(
                f"{file} gives the token {_said(token)} the id {number}, and the model has {rows} rows "
                "(vocab_size in config.json)",
                hint="Resize the model's embeddings to its tokenizer, or take the tokenizer that it was made with.",
            )
        there, of = ids.setdefault(token, (number, file))
        if there != number:
            raise _disagree(f"{of} gives the token {_said(token)} the id {there}, and {file} gives it {number}")
        other, of = tokens.setdefault(number, (token, file))
        if other != token:
            raise _disagree(f"{of} gives the id {number} to the token {_said(other)}, and {file} to {_said(token)}")
    for key, value in _values(_object(folder / "generation_config.json")):
        if value is not None and type(value) is not int:
            raise ConfigValueError(
                f"generation_config.json: {key} has {_said(value)}, which is not a token's id",
                hint="Set it to an id, a list of ids, or null.",
            )


def possible_ids(name: str, values: dict[str, Json], rows: Json) -> tuple[dict[str, Json], list[str]]:
    """Return the content of a configuration file without ids that are not rows of the model, and a note on each.

    Such an id does nothing in the original: no text holds its token, and none is generated. -1 is how some write
    "none". Libraries stumble over it.
    """
    out, notes = dict(values), []
    for key in _IDS:
        given = values.get(key)
        if type(rows) is not int or given is None:
            continue
        wrong = [i for i in _list(given) if type(i) is int and not 0 <= i < rows]
        if not wrong:
            continue
        left = [i for i in _list(given) if i not in wrong]
        out[key] = (left or None) if isinstance(given, list) else None
        said = ", ".join(str(i) for i in wrong[:3])
        notes.append(f"{name}: {key} names {said}, which is not one of the model's {rows}; it is ignored")
    return out, notes


def template_notes(folder: Path) -> list[str]:
    """Return a line for each chat template that does not count, because transformers takes another file's."""
    counts = folder / "chat_template.jinja"
    key = _object(folder / "tokenizer_config.json").get("chat_template")
    beside = _object(folder / "chat_template.json").get("chat_template")
    template = counts.read_text(encoding="utf-8") if counts.is_file() else None
    notes = []
    if template is not None and key is not None and key != template:
        notes.append("chat_template.jinja counts, as in transformers; tokenizer_config.json has another chat template")
    counting = key if template is None else template
    if beside is not None and beside != counting:
        notes.append("chat_template.json, which transformers does not read for a text model, is ignored")
    return notes


def flag_notes(folder: Path) -> list[str]:
    """Return a line if tokenizer_config.json gives tokens other flags than tokenizer.json: those are what counts."""
    decoder = _object(folder / "tokenizer_config.json").get("added_tokens_decoder")
    there = _by_content(list(decoder.values()) if isinstance(decoder, dict) else [])
    differing = []
    for content, token in _by_content(_object(folder / "tokenizer.json").get("added_tokens")).items():
        other = there.get(content, {})
        if any(flag in token and flag in other and token[flag] != other[flag] for flag in _FLAGS):
            differing.append(content)
    if not differing:
        return []
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    what = f"{_said(differing[0])}{more}"
    return [f"tokenizer_config.json counts, as in transformers; tokenizer.json has other flags for {what}"]


def _named(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Yield each token that a file gives an id: the file's name, the token, the id. Other values are left alone."""
    fast = _object(folder / "tokenizer.json")
    model = fast.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    sources: list[tuple[str, list[tuple[Json, Json]]]] = [
        ("tokenizer.json", list(vocabulary.items()) if isinstance(vocabulary, dict) else []),
        ("tokenizer.json", [(t.get("content"), t.get("id")) for t in _objects(fast.get("added_tokens"))]),
    ]
    decoder = _object(folder / "tokenizer_config.json").get("added_tokens_decoder")
    if isinstance(decoder, dict):
        pairs = [(t.get("content"), _number(i)) for i, t in decoder.items() if isinstance(t, dict)]
        sources.append(("tokenizer_config.json", pairs))
    sources += [(name, list(_object(folder / name).items())) for name in ("added_tokens.json", "vocab.json")]
    for file, found in sources:
        for token, number in found:
            if isinstance(token, str) and type(number) is int:
                yield file, token, number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _object(path: Path) -> dict[str, Json]:
    return parse_object(path.read_bytes()) if path.is_file() else {}


def _objects(value: Json) -> list[dict[str, Json]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _by_content(tokens: Json) -> dict[str, dict[str, Json]]:
    return {t["content"]: t for t in _objects(tokens) if isinstance(t.get("content"), str)}


def _values(config: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for key in _IDS:
        for value in _list(config.get(key)):
            yield key, value


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _said(value: Json) -> str:
    text = ascii(value)
    return text if len(text) <= _SAID else f"{text[: _SAID - 1]}…"


def _disagree(what: str) -> DamagedTokenizerError:
    return DamagedTokenizerError(what, hint="Save the tokenizer again with the library that made the model.")
