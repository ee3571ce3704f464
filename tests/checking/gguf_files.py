"""GGUF files for tests, written field by field: whole ones, and what a stranger could write."""

import struct
from typing import Any

TOKENS = ("<unk>", "<|end|>", "<|user|>", "<|assistant|>", "a")
FACTORS: dict[str, tuple[float, ...]] = {"short": (1.0, 1.5), "long": (2.0, 4.25)}
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(given: Any) -> bytes:
    """Return a value with the number of its kind before it."""
    if isinstance(given, str):
        return struct.pack("<I", 8) + text(given)
    if isinstance(given, float):
        return struct.pack("<If", 6, given)
    if isinstance(given, int):
        return struct.pack("<II", 4, given)
    return struct.pack("<IIQ", 9, 8, len(given)) + b"".join(map(text, given))


def metadata(**changes: Any) -> dict[str, Any]:
    """Return the metadata of a small Phi-3; keys of changes have ``__`` for a dot, and None leaves one out."""
    found: dict[str, Any] = {
        "general.architecture": "phi3",
        "general.name": "Phi 9",
        "general.license": "mit",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
        "phi3.rope.freq_base": 10000.0,
    }
    found |= {name.replace("__", "."): v for name, v in changes.items()}
    return {name: v for name, v in found.items() if v is not None}


def gguf(pairs: dict[str, Any] | None = None, factors: dict[str, tuple[float, ...]] | None = None) -> bytes:
    """Return a whole file with such metadata, and LongRoPE's factors as its only tensors."""
    pairs = metadata() if pairs is None else pairs
    tensors = FACTORS if factors is None else factors
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(text(name) + value(v) for name, v in pairs.items())
    data = b""
    for side, numbers in tensors.items():
        head += text(f"rope_factors_{side}.weight") + struct.pack("<IQIQ", 1, len(numbers), 0, len(data))
        data += struct.pack(f"<{len(numbers)}f", *numbers).ljust(32, b"\0")
    return head + b"\0" * (-len(head) % 32) + data
