"""The configuration of a source model: reading it, and what it asks for."""

from pathlib import Path

from bot import format_folders
from bot.errors import MissingConfigError, RemoteCodeError
from bot.records.artifacts import Json
from bot.source import copies
from bot.source.copies import ReadJson, read_as_phi_3
from bot.source.meaning import NATIVE, architecture, check_class, normal, respelled
from bot.source.sizes import LARGEST
from bot.source.strict import read_object
from bot.source.text_parts import TEXT_PARTS, read_text_part, text_part_of
from bot.source.values import check_values

CONFIG_BYTES = LARGEST["config.json"]

# Keys that make a library fetch or run code, wherever in the file they stand: transformers', and those of runtimes.
_CODE_KEYS = frozenset(
    {"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "code_revision"}
    | {key for look in format_folders.looks().values() for key in look.code_keys}
)
# Keys of a tokenizer's configuration that hold paths on its maker's disk, which some loaders follow.
_PATH_KEYS = frozenset(
    {"vocab_file", "merges_file", "tokenizer_file"}
    | {"special_tokens_map_file", "added_tokens_file", "chat_template_file"}
)


def read_config(folder: Path) -> dict[str, Json]:
    """Return a folder's config.json. Raises MissingConfigError when there is none, or it is not a JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise no_config(str(folder))
    try:
        return read_object(path, limit=CONFIG_BYTES)
    except ValueError as error:
        raise bad_config(str(folder), str(error)) from error


def no_config(where: str) -> MissingConfigError:
    """Return the error for a model without config.json."""
    return MissingConfigError(
        f"{where} has no config.json", hint="Give a model in the layout of transformers: config.json and safetensors."
    )


def bad_config(where: str, what: str) -> MissingConfigError:
    """Return the error for a config.json that is not a JSON object."""
    return MissingConfigError(f"config.json of {where} {what}", hint="Restore it from the original model.")


def layout_of(config: dict[str, Json]) -> str:
    """Return the class that a config names where it is read as Phi-3's: of a copy, or of a model with pictures."""
    return copies.layout_of(config) or text_part_of(config)


def check_config(
    config: dict[str, Json], *, where: str, read: ReadJson = lambda _: {}
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return a configuration as all libraries read it alike, and what a person should know of that, a line each.

    That of a copy (see copies.py) is returned as Phi-3's: ``read`` reads the files of its tokenizer, which say whether
    it is one. So is that of a model whose text part is read (see text_parts.py); the weights tell what else it has.
    Raises RemoteCodeError for a model that only code from its own repo can read, ConfigValueError for a Phi with values
    that cannot be, and what ``read_as_phi_3``, ``read_text_part``, ``normal`` and ``check_class`` raise.
    """
    notes: tuple[str, ...] = ()
    if text_part_of(config):
        config = read_text_part(config, where=where)
    elif copies.layout_of(config):
        config, line = read_as_phi_3(config, read, where=where)
        notes = (line,)
    elif architecture(config) in NATIVE or config.get("model_type") in NATIVE.values():
        check_values(respelled(config), where=where)
    config = normal(config, where=where)
    if not asks_for_code(config):
        check_class(config, where=where)
        return config, notes
    name = architecture(config)
    if name not in NATIVE or config.get("model_type") != NATIVE[name]:
        read_without = ", ".join(sorted([*NATIVE, *TEXT_PARTS]))
        raise RemoteCodeError(
            f"{where} asks for code from its repo to be run, and {name[:60]!a} is not read without it",
            hint=f"Code from a model's repo is never run. Read without it: {read_without}.",
        )
    return config, (*notes, "the model asks for code from its repo; it is built without it")


def without_code(config: dict[str, Json]) -> dict[str, Json]:
    """Return a configuration without what makes a library run code or follow a path; all else stays as it is."""
    return {k: _clean(v) for k, v in config.items() if k not in _CODE_KEYS | _PATH_KEYS}


def _clean(value: Json) -> Json:
    if isinstance(value, dict):
        return without_code(value)
    if isinstance(value, list):
        return [_clean(v) for v in value]
    return value


def asks_for_code(value: Json) -> bool:
    """Say whether a configuration has a library run code that is not its own, anywhere in it."""
    if isinstance(value, dict):
        return any(v for k, v in value.items() if k in _CODE_KEYS) or any(asks_for_code(v) for v in value.values())
    return isinstance(value, list) and any(asks_for_code(v) for v in value)
