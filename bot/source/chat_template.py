"""The prompt format of a source: its own chat template, read as data and rendered where it can do no harm."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bot import errors, texts
from bot.errors import DamagedTokenizerError
from bot.printable import one_line
from bot.records.artifacts import Json, Record
from bot.records.digests import digest_of
from bot.sandbox import rendering
from bot.source.bounds import FILE_BYTES

_WITHIN_LIMITS: set[str] = set()  #: digests of chat formats that this process has rendered: fine-tunes share them

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateRenderError(Exception):
    """A chat template that fails, or takes more time or memory than a prompt is worth. One line, for a person."""


@dataclass(frozen=True, kw_only=True)
class ChatFormat(Record):
    """A Jinja2 chat template and the special tokens (``bos_token`` …) that it may use. All of it is untrusted."""

    template: str
    special_tokens: dict[str, str] = field(default_factory=dict)


def chat_format(source: Path) -> ChatFormat | None:
    """Read the chat template of the model in a folder; None if it has none.

    ``chat_template.jinja`` goes before tokenizer_config.json, and that before ``chat_template.json``, as transformers
    reads them; of several named templates it is ``default``. Raises DamagedTokenizerError when one of the files is
    not a readable JSON object.
    """
    config = _json(source / "tokenizer_config.json")
    template = (
        _text(source / "chat_template.jinja")
        or _chosen(config.get("chat_template"))
        or _chosen(_json(source / "chat_template.json").get("chat_template"))
    )
    if template is None:
        return None
    tokens = {name: token for name in _SPECIAL_TOKENS if (token := _token(config.get(name))) is not None}
    return ChatFormat(template=template, special_tokens=tokens)


def render_prompt(chat: ChatFormat, messages: Sequence[Mapping[str, str]], *, now: datetime | None = None) -> str:
    """Return what the model is given for messages (``role`` and ``content`` each), up to where it answers.

    ``now`` is what the template's ``strftime_now`` says. Rendering happens in Jinja2's sandbox, inside a child process
    with limits (see bot/sandbox/rendering.py). Raises ChatTemplateError.
    """
    asked = {"messages": [dict(m) for m in messages], "tools": None, "add_generation_prompt": True}
    try:
        (made,) = rendering.render("bot.worker.jinja", _given(chat, now or datetime.now(UTC)), [asked])
    except rendering.LimitError as error:
        raise TemplateRenderError(str(error)) from error
    if made.text is None:
        raise TemplateRenderError(one_line(made.error)[:200])
    return made.text


def renderings(chat: ChatFormat, now: datetime) -> list[str | None]:
    """Return what a template makes of each shipped conversation, None for one that it refuses.

    Raises TemplateRenderError for a template that takes more than any conversation is worth.
    """
    try:
        return [made.text for made in rendering.render("bot.worker.jinja", _given(chat, now), texts.conversations())]
    except rendering.LimitError as error:
        raise TemplateRenderError(str(error)) from error


def check_limits(source: Path) -> None:
    """Render the shipped conversations with the template of the model in a folder, and forget what it made of them.

    Raises bot.errors.ChatTemplateError for one that takes more than any conversation is worth: known before hours of
    work, and not when a toolchain renders it. What it refuses is its own affair.
    """
    chat = chat_format(source)
    if chat is None:
        return
    known = digest_of(chat.to_json())
    if known in _WITHIN_LIMITS:
        return
    try:
        rendering.render("bot.worker.jinja", _given(chat, datetime.now(UTC)), texts.conversations())
        _WITHIN_LIMITS.add(known)
    except rendering.LimitError as error:
        what = f"the chat template cannot be rendered: {error}"
        raise errors.ChatTemplateError(what, hint="Take the template of the original model, or fix it.") from error


def _given(chat: ChatFormat, now: datetime) -> Json:
    return {"template": chat.template, "variables": chat.special_tokens, "now": now.isoformat()}


def _chosen(value: Json) -> str | None:
    if isinstance(value, list):
        named = {t["name"]: t.get("template") for t in value if isinstance(t, dict) and isinstance(t.get("name"), str)}
        value = named.get("default", next(iter(named.values())) if len(named) == 1 else None)
    return value if isinstance(value, str) and value.strip() else None


def _token(value: Json) -> str | None:
    if isinstance(value, dict):  # as transformers writes a token with options
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(path: Path) -> dict[str, Json]:
    text = _text(path)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _damaged(path, "not a JSON object")
    return value


def _text(path: Path) -> str | None:
    try:
        if path.stat().st_size > FILE_BYTES:
            raise _damaged(path, f"larger than {FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path, "not UTF-8 text") from error


def _damaged(path: Path, what: str) -> DamagedTokenizerError:
    return DamagedTokenizerError(
        f"{path.name} is {what}", hint="Fetch the source again; if it stays so, tell its owner."
    )
