"""Conversations as a checkpoint's chat template writes them: what artifacts are asked, and held against."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from bot.records import Json
from bot.workers.harness import TemplateProblem, said

_NEW_TOKENS = 32


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text: special tokens in it recognised, none added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return ids


def chats(tokenizer: Any, conversations: Sequence[Json]) -> list[Json]:
    """Return the conversations with the ``text`` that the template makes of each; those that it refuses are left out.

    So are those of which it leaves something out: runtimes put it in by themselves, each in its own way.
    """
    if not tokenizer.chat_template:
        return []
    rendered = [c | {"text": text} for c in conversations if (text := _text_or_none(tokenizer, c)) is not None]
    return [c for c in rendered if _says_all(c)]


def _says_all(chat: Json) -> bool:
    """Say whether a rendered conversation has all that was said, and the name of every tool."""
    said = [m["content"].strip() for m in chat["messages"]]
    tools = [t["function"] for t in chat["tools"] or ()]
    for message in chat["messages"]:
        tools += json.loads(message.get("tools", "[]"))
    return all(words in chat["text"] for words in (*said, *(t["name"] for t in tools)))


def prompt(tokenizer: Any, messages: list[Json]) -> Json:
    """Return what an artifact is asked to continue, with the template where there is one.

    Raises TemplateProblem for a template that renders no conversation at all.
    """
    text = _question(tokenizer, messages) if tokenizer.chat_template else messages[-1]["content"]
    return {"text": text, "ids": encode(tokenizer, text), "max_new_tokens": _NEW_TOKENS}


def answered(tokenizer: Any, rendered: Sequence[Json]) -> list[list[int]]:
    """Return ids that end where an assistant's turn in one of the rendered conversations has said all that it says."""
    contexts = [encode(tokenizer, text) for chat in rendered for text in _answered(chat)]
    return [list(ids) for ids in dict.fromkeys(map(tuple, contexts))]


def _answered(chat: Json) -> Iterator[str]:
    start = 0
    for message in chat["messages"]:
        content = message["content"].strip()
        at = chat["text"].find(content, start)
        if at < 0:  # this template changes what is said
            return
        start = at + len(content)
        if message["role"] == "assistant":
            yield chat["text"][:start]


def _question(tokenizer: Any, messages: list[Json]) -> str:
    try:
        return _rendered(tokenizer, messages, tools=None, add_generation_prompt=True)
    except Exception as error:
        spoken = [m for m in messages if m["role"] != "system"]
        if spoken != messages:  # some templates refuse a system message
            return _question(tokenizer, spoken)
        raise TemplateProblem(f"the chat template cannot be rendered: {said(error)}") from error


def _text_or_none(tokenizer: Any, chat: Json) -> str | None:
    try:
        return _rendered(
            tokenizer, chat["messages"], tools=chat["tools"], add_generation_prompt=chat["add_generation_prompt"]
        )
    except Exception:  # noqa: BLE001 - whatever the template raises
        return None


def _rendered(tokenizer: Any, messages: list[Json], *, tools: list[Json] | None, add_generation_prompt: bool) -> str:
    text: str = tokenizer.apply_chat_template(
        messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text
