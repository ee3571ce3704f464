"""The child that renders chat templates: see bot/sandbox/rendering.py. Whatever its engine is, its limits are these.

It reads ``{"given": …, "chats": […]}`` from standard input and answers a JSON object a line: ``{"ready": true}`` when
the engine is loaded and the limits are set, then for each conversation ``text``, ``error`` (the template's own) or
``exceeded`` (which limit). Limits are for what a sandbox does not keep off: endless loops, texts of gigabytes, and the
next way out of it that somebody finds. Imports only the standard library.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.records.artifacts import Json

MEMORY_BYTES = 512 << 20  # beside what the loaded engine has
PROCESSOR_SECONDS = 5  # for all conversations; each takes some thousandths of one
CHARACTERS = 100_000  # of a text
_ANSWER_BYTES = 8 << 20
_TOO_MUCH_MEMORY: Json = {"exceeded": f"takes too much memory (more than {MEMORY_BYTES >> 20} MiB)"}

#: Renders a conversation: with the template that the engine was given, or with one of ours.
Render = Callable[[Json, str | None], str]

# Have everything imported that rendering imports on the way: under the limits no file can be opened.
_WARM_UP = (
    "{{ messages[0]['content'] | upper }}{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "{{ strftime_now('%d %B %Y') }}",
    "{{ lipsum(n=1) }}",
    "{{ raise_exception('a') }}",
    "{{ nothing.at_all }}",
    "{% if %}",
)
_HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}], "tools": None, "add_generation_prompt": True}


class TooMuchError(Exception):
    """An engine found that a template writes too much, before all of it was there."""


def main(engine: Callable[[Json], Render]) -> None:
    """Answer the task on standard input with an engine, which is given what it has to know of the template."""
    task = json.load(sys.stdin)
    answers = os.dup(1)
    os.dup2(2, 1)  # native libraries write to standard output too
    render = engine(task["given"])
    for template in _WARM_UP:
        with contextlib.suppress(Exception):  # an engine may not know what another does
            render(_HELLO, template)
    limit()
    _write(answers, {"ready": True})
    for chat in task["chats"]:
        answer = answer_of(render, chat)
        _write(answers, answer)
        if "exceeded" in answer:
            break
    os._exit(0)  # some engines crash or hang in their atexit handlers


def of_tokenizer(tokenizer: Any) -> Render:
    """Return what renders conversations by a tokenizer of transformers, or one that answers as these do."""

    def render(chat: Json, template: str | None) -> str:
        more = {} if template is None else {"chat_template": template}
        return str(
            tokenizer.apply_chat_template(
                chat["messages"],
                tools=chat["tools"],
                add_generation_prompt=chat["add_generation_prompt"],
                tokenize=False,
                **more,
            )
        )

    return render


def answer_of(render: Render, chat: Json) -> Json:
    """Render one conversation. Whatever the template raises is an answer too."""
    try:
        text = render(chat, None)
    except MemoryError:
        return _TOO_MUCH_MEMORY
    except TooMuchError:
        text = "x" * (CHARACTERS + 1)
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - the template is a stranger's
        if "std::bad_alloc" in str(error):  # engines in C++ raise it again, with where in the template that was
            return _TOO_MUCH_MEMORY
        return {"error": f"{type(error).__name__}: {str(error)[:1000]}"}
    if len(text) > CHARACTERS:
        return {"exceeded": f"writes too much (more than {CHARACTERS} characters)"}
    return {"text": text}


def _write(to: int, answer: Json) -> None:
    line = (json.dumps(answer) + "\n").encode()
    while line:
        line = line[os.write(to, line) :]


def limit() -> None:
    """Set the limits of this process: from now on, and for good."""
    if sys.platform == "win32":
        return
    import resource

    size, data = _held()
    limits = [
        (resource.RLIMIT_CPU, math.ceil(time.process_time()) + PROCESSOR_SECONDS),
        (resource.RLIMIT_AS, size + MEMORY_BYTES),
        (resource.RLIMIT_DATA, data + MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _ANSWER_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ]
    for what, most in limits:
        with contextlib.suppress(ValueError, OSError):  # macOS has some of these in name only
            resource.setrlimit(what, (most, most))


def _held() -> tuple[int, int]:
    """Return the address space that this process has, and the part that holds data, in bytes; 0 where nobody knows."""
    file = Path("/proc/self/statm")
    if not file.exists():
        return 0, 0
    pages = file.read_text(encoding="ascii").split()
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE"), int(pages[5]) * os.sysconf("SC_PAGE_SIZE")
