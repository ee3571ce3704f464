"""The prompt format of a source: its own chat template, read as data and rendered where it can do no harm."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from bot.errors import DamagedTokenizerError
from bot.markdown import one_line
from bot.records import Json, Record
from bot.source.bounds import FILE_BYTES

_CHILD = Path(__file__).with_name("chat_child.py")
_WALL_SECONDS = 30.0  # on top of the child's own limit of processor time: this machine may be busy
_RESIDENT_BYTES = 512 << 20
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class ChatTemplateError(Exception):
    """A chat template that fails, or takes more time or memory than a prompt is worth. One line, for a person."""


@dataclass(frozen=True, kw_only=True)
class ChatFormat(Record):
    """A Jinja2 chat template and the special tokens (``bos_token`` …) that it may use. All of it is untrusted."""

    template: str
    special_tokens: dict[str, str] = field(default_factory=dict)


def chat_format(source: Path) -> ChatFormat | None:
    """Read the chat template of the model in a folder; None if it has none.

    ``chat_template.jinja`` goes before tokenizer_config.json, and that before ``chat_template.json``, as transformers
    reads them; of several named templates it is ``default``. Raises DamagedTokenizerError when one of the files is no
    readable JSON object.
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

    ``now`` is what the template's ``strftime_now`` says. Rendering happens in Jinja2's sandbox inside a child process
    that has limits of memory and processor time and can open no file. Raises ChatTemplateError.
    """
    task = {
        "template": chat.template,
        "variables": {**chat.special_tokens, "messages": [dict(m) for m in messages], "add_generation_prompt": True},
        "now": (now or datetime.now(UTC)).isoformat(),
    }
    # Files, not pipes: nothing has to be read while the child runs, and its limit of file size bounds the answer.
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(json.dumps(task).encode())
        stdin.seek(0)
        code = _run(stdin, stdout)
        stdout.seek(0)
        written = stdout.read()
    if code != 0:
        raise ChatTemplateError(f"it takes too much time or memory (it was stopped with code {code})")
    answer = json.loads(written)
    if "error" in answer:
        raise ChatTemplateError(one_line(answer["error"])[:200])
    return str(answer["text"])


def _run(stdin: IO[bytes], stdout: IO[bytes]) -> int:
    process = subprocess.Popen(
        [sys.executable, "-I", "-X", "utf8", str(_CHILD)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env={},  # nothing of ours to be found there
    )
    deadline = time.monotonic() + _WALL_SECONDS
    try:
        while True:
            try:
                return process.wait(0.1)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline or _too_large(process.pid):
                    process.kill()
    finally:
        process.kill()
        process.wait()


def _too_large(pid: int) -> bool:
    if sys.platform == "darwin":  # where the child's own limit of memory is one in name only
        return _resident_bytes(pid) > _RESIDENT_BYTES
    return False


def _resident_bytes(pid: int) -> int:
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True)
    return int(shown.stdout.strip() or 0) << 10


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
        raise _damaged(path, f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _damaged(path, "no JSON object")
    return value


def _text(path: Path) -> str | None:
    try:
        if path.stat().st_size > FILE_BYTES:
            raise _damaged(path, f"larger than {FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _damaged(path, "no UTF-8 text") from error


def _damaged(path: Path, what: str) -> DamagedTokenizerError:
    return DamagedTokenizerError(
        f"{path.name} is {what}", hint="Fetch the source again; if it stays so, tell its owner."
    )
