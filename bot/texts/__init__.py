"""The texts that the project ships: what the sample is trained on, and what every model is measured on.

``training.txt`` is a list of documents, with a line ``%%`` between two. ``evaluation.txt`` is one text of many kinds.
``tokenizer.json`` is a list of strings on which tokenizers are compared. ``prompts.json`` is a list of conversations
(lists of messages with ``role`` and ``content``) to answer. All of it was written for this project.
"""

import hashlib
import json
from pathlib import Path

_FOLDER = Path(__file__).parent


def training() -> list[str]:
    """Return the documents that the sample checkpoint is trained on."""
    return [d.strip("\n") for d in _read("training.txt").split("\n%%\n")]


def evaluation() -> str:
    """Return the text on which predictions are compared."""
    return _read("evaluation.txt")


def tokenizer() -> list[str]:
    """Return the strings on which tokenizers are compared."""
    texts: list[str] = json.loads(_read("tokenizer.json"))
    return texts


def prompts() -> list[list[dict[str, str]]]:
    """Return the conversations that every artifact continues."""
    conversations: list[list[dict[str, str]]] = json.loads(_read("prompts.json"))
    return conversations


def digest() -> str:
    """Return the sha256, in hex, of the texts that models are measured on: part of what names a reference."""
    total = hashlib.sha256()
    for name in ("evaluation.txt", "tokenizer.json", "prompts.json"):
        total.update(hashlib.sha256((_FOLDER / name).read_bytes()).digest())
    return total.hexdigest()


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
