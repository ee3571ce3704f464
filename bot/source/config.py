"""The configuration of a source model: reading it, and what it asks for."""

import json
from pathlib import Path

from bot.errors import MissingConfigError, RemoteCodeError, UnsupportedArchitectureError
from bot.records import Json

CONFIG_BYTES = 1_000_000  # Phi's largest is below 10 kB

# Phi models that transformers reads with its own code: architecture to model_type. What is not here, and brings code
# of its own, cannot be measured against the original without running that code.
NATIVE = {
    "PhiForCausalLM": "phi",
    "Phi3ForCausalLM": "phi3",
    "PhiMoEForCausalLM": "phimoe",
    "PhimoeForCausalLM": "phimoe",
    "Phi4MultimodalForCausalLM": "phi4_multimodal",
}

# Keys that make a library fetch or run code, wherever in the file they stand.
_CODE_KEYS = frozenset(
    {"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "code_revision"}  # transformers
    | {"model_file", "custom_ops_library"}  # mlx-lm, onnxruntime-genai
)
# Keys of a tokenizer's configuration that hold paths on its maker's disk, which some loaders follow.
_PATH_KEYS = frozenset(
    {"vocab_file", "merges_file", "tokenizer_file"}
    | {"special_tokens_map_file", "added_tokens_file", "chat_template_file"}
)
_DEPTH = 64  # levels of nesting; our own walks through a value are recursive


def read_object(path: Path, *, limit: int) -> dict[str, Json]:
    """Read a file that holds one JSON object. Raises ValueError, saying what it is instead, and OSError."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"has {size} bytes, more than {limit}")
    return parse_object(path.read_bytes())


def parse_object(data: bytes) -> dict[str, Json]:
    """Parse one JSON object. Raises ValueError, saying what it is instead."""
    if is_lfs_pointer(data):
        raise ValueError("is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({str(error)[:100]})") from error
    if not isinstance(value, dict):
        raise ValueError(f"holds no JSON object but a {type(value).__name__}")
    if _is_deep(value):
        raise ValueError(f"is nested more than {_DEPTH} levels deep")
    if b"\\ud" in data.lower() and not _is_unicode(value):
        raise ValueError("holds half a surrogate pair, which is no text")
    return value


def _is_deep(value: Json) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
    return bool(level)


def _is_unicode(value: Json) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_lfs_pointer(start: bytes) -> bool:
    """Say whether a file begins like what Git leaves in place of a large file."""
    return start.startswith(b"version https://git-lfs")


def read_config(folder: Path) -> dict[str, Json]:
    """Return a folder's config.json. Raises MissingConfigError when there is none, or it is no JSON object."""
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
    """Return the error for a config.json that is no JSON object."""
    return MissingConfigError(f"config.json of {where} {what}", hint="Restore it from the original model.")


def architecture(config: dict[str, Json]) -> str:
    """Return the model class that config.json names first, such as ``Phi3ForCausalLM``; "" if it names none."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def check_config(config: dict[str, Json], *, where: str) -> tuple[str, ...]:
    """Return what a person should know of how the model will be read, a line each.

    Raises RemoteCodeError for a model that only code from its own repo can read, and UnsupportedArchitectureError for
    one whose weights are quantized already.
    """
    quantized = config.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise UnsupportedArchitectureError(
            f"{where} is quantized already ({ascii(method or 'quantization_config')[:40]})",
            hint="Give the original model with its full-precision weights.",
        )
    if not asks_for_code(config):
        return ()
    name = architecture(config)
    if name not in NATIVE or config.get("model_type") != NATIVE[name]:
        raise RemoteCodeError(
            f"{where} asks for code from its repo to be run, and {name[:60]!a} is not read without it",
            hint=f"Code from a model's repo is never run. Read without it: {', '.join(sorted(NATIVE))}.",
        )
    return ("the model asks for code from its repo; it is built without it",)


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
