"""The texts that the project ships: what the sample is trained on, and what every model is measured on.

``training.txt`` is a list of documents, with a line ``%%`` between two. ``evaluation.txt`` is one, too, but with a line
``%% KIND`` before each. ``tokenizer.json`` is a list of strings on which tokenizers are compared, ``unusual.json`` has
those that some runtime is known to read differently, and ``conversations.json`` is a list of conversations on which
chat templates are compared. ``prompts.json`` is a list of conversations to answer. All of it was written for this
project.
"""

import hashlib
import json
import re
from pathlib import Path

from bot.records.artifacts import Json

#: Kinds of text that are made of a model's own added tokens (see worker/own.py), beside those of ``unusual.json``.
OWN = "the model's own tokens"
KEPT = "white space that the model's own tokens keep"
DROPPED_BEFORE = "white space that the model's own tokens drop before them"
DROPPED_BEHIND = "white space that the model's own tokens drop behind them"
WITH_TOOLS = "tools in a conversation"  #: of ``conversations.json``: how they are written

_FOLDER = Path(__file__).parent
_MEASURED_ON = ("evaluation.txt", "tokenizer.json", "unusual.json", "conversations.json", "prompts.json")
_KIND = re.compile(r"^%% (\w+)\n", re.MULTILINE)


def training() -> list[str]:
    """Return the documents that the sample checkpoint is trained on."""
    return [d.strip("\n") for d in _read("training.txt").split("\n%%\n")]


def evaluation() -> str:
    """Return the text on which predictions are compared: documents of all kinds, mixed."""
    return "\n\n".join(document for _, document in _evaluation())


def evaluation_by_kind() -> dict[str, str]:
    """Return the documents of the same text sorted by kind: prose, code, dialogue, maths, languages."""
    by_kind: dict[str, list[str]] = {}
    for kind, document in _evaluation():
        by_kind.setdefault(kind, []).append(document)
    return {kind: "\n\n".join(documents) for kind, documents in by_kind.items()}


def tokenizer() -> list[str]:
    """Return the strings on which tokenizers are compared."""
    texts: list[str] = json.loads(_read("tokenizer.json"))
    return texts


def unusual() -> dict[str, list[str]]:
    """Return strings that some runtime or other reads differently, whatever the file holds, by what is unusual."""
    texts: dict[str, list[str]] = json.loads(_read("unusual.json"))
    return texts


def conversations() -> list[Json]:
    """Return the conversations on which chat templates are compared.

    Each has ``name``, ``messages``, ``tools`` (a list, or None) and ``add_generation_prompt``.
    """
    conversations: list[Json] = json.loads(_read("conversations.json"))
    return conversations


def prompts() -> list[list[dict[str, str]]]:
    """Return the conversations that every artifact continues."""
    conversations: list[list[dict[str, str]]] = json.loads(_read("prompts.json"))
    return conversations


def digest() -> str:
    """Return the sha256, in hex, of the texts that models are measured on: part of what names a reference."""
    total = hashlib.sha256()
    for name in _MEASURED_ON:
        total.update(hashlib.sha256((_FOLDER / name).read_bytes()).digest())
    return total.hexdigest()


def _evaluation() -> list[tuple[str, str]]:
    _, *parts = _KIND.split(_read("evaluation.txt"))
    return [(kind, document.strip("\n")) for kind, document in zip(parts[::2], parts[1::2], strict=True)]


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
