"""Conversations as a checkpoint's chat template writes them: what artifacts are asked, and held against."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.sandbox import rendering
from bot.sandbox.rendering import RenderedPrompt
from bot.worker.harness import TemplateProblem

_NEW_TOKENS, _FEW = 32, 8  # that the first prompt is continued with, and the others


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a text: special tokens in it recognised, none added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return ids


def questions(
    tokenizer: Any, source: Path, conversations: Sequence[Json], prompts: Sequence[list[Json]]
) -> dict[str, list[Json]]:
    """Return what artifacts are asked: ``chats`` and ``prompts``, as the template of a checkpoint writes them.

    Chats are the conversations with the ``text`` that it makes of each. Those that it refuses are left out, and those
    of which it leaves something out: runtimes put it in by themselves, each in its own way. Prompts, of messages each,
    are what an artifact is to continue. Without a template there are no chats, and prompts are plain text.

    Raises TemplateProblem for a template that renders none of the prompts, or takes too much time or memory.
    """
    if not tokenizer.chat_template:
        return {"chats": [], "prompts": _prompts(tokenizer, [messages[-1]["content"] for messages in prompts])}
    spoken = [[m for m in messages if m["role"] != "system"] for messages in prompts]
    questions = [{"messages": m, "tools": None, "add_generation_prompt": True} for m in (*prompts, *spoken)]
    try:
        made = rendering.render("bot.worker.templates", {"source": str(source)}, [*conversations, *questions])
    except rendering.LimitError as error:
        raise TemplateProblem(f"the chat template cannot be rendered: {error}") from error
    of_chats, of_prompts = made[: len(conversations)], made[len(conversations) :]
    chats = [c | {"text": m.text} for c, m in zip(conversations, of_chats, strict=True) if m.text is not None]
    pairs = zip(of_prompts[: len(prompts)], of_prompts[len(prompts) :], strict=True)
    return {
        "chats": [c for c in chats if _says_all(c)],
        "prompts": _prompts(tokenizer, [_question(*pair) for pair in pairs]),
    }


def _says_all(chat: Json) -> bool:
    """Say whether a rendered conversation has all that was said, and the name of every tool."""
    said = [m["content"].strip() for m in chat["messages"]]
    tools = [t["function"] for t in chat["tools"] or ()]
    for message in chat["messages"]:
        tools += json.loads(message.get("tools", "[]"))
    return all(words in chat["text"] for words in (*said, *(t["name"] for t in tools)))


def _prompts(tokenizer: Any, asked: Sequence[str]) -> list[Json]:
    """Return prompts of which one gets a long answer: without a GPU, MLX takes seconds for a token of a real size."""
    most = [_NEW_TOKENS, *[_FEW] * (len(asked) - 1)]
    return [{"text": t, "ids": encode(tokenizer, t), "max_new_tokens": n} for t, n in zip(asked, most, strict=True)]


def _question(whole: RenderedPrompt, spoken: RenderedPrompt) -> str:
    """Return what a template made of a prompt, or of that without its system message, which some refuse."""
    text = spoken.text if whole.text is None else whole.text
    if text is None:
        raise TemplateProblem(f"the chat template cannot be rendered: {' '.join(spoken.error.split())}")
    return text


def answered_ids(tokenizer: Any, rendered: Sequence[Json]) -> list[list[int]]:
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
