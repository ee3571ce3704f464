"""Render one chat template, as transformers does, under limits: ``python -I chat_child.py <task >answer``.

Run only as a child of bot/cards/chat.py. A task has ``template``, ``variables`` and ``now``, an answer ``text`` or
``error``. Jinja2's sandbox keeps a template from Python's internals. The limits are for what it does not:
endless loops, texts of gigabytes, and the next way out of the sandbox that somebody finds.
"""

import contextlib
import json
import math
import random
import sys
import time
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY_BYTES = 384 << 20
_PROCESSOR_SECONDS = 1  # a prompt takes a few thousandths of one
_ANSWER_BYTES = 2 << 20
_TEXT_CHARACTERS = 100_000


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what the assistant said; in a prompt it stands for its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without private names."""

    def __init__(*args: Any, **values: Any) -> None:  # `self` may be one of the names
        jinja2.utils.Namespace.__init__(*args, **values)
        for name in dict(*args[1:], **values):
            _refuse_private(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.TemplateError(f"the namespace attribute {name!r} begins with an underscore")


def main() -> None:
    """Read a task from standard input, and answer on standard output."""
    task = json.load(sys.stdin)
    _warm_up()
    random.seed(0)  # the filter of that name: a card is the same each time
    _limit()
    sys.stdout.write(json.dumps(answer(task)))


def answer(task: dict[str, Any]) -> dict[str, str]:
    """Render a task's template. Whatever it raises is an answer too."""
    try:
        environment = _environment(datetime.fromisoformat(task["now"]))
        return {"text": _render(environment, task["template"], task["variables"])}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - the template is a stranger's
        return {"error": f"{type(error).__name__}: {str(error)[:1000]}"}


def _environment(now: datetime) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise, strftime_now=now.strftime, namespace=_Namespace)
    return environment


def _warm_up() -> None:
    """Have everything imported that rendering imports on the way: under the limits no file can be opened."""
    for template in ("{{ 'a' }}", "{{ lipsum(n=1) }}", "{{ raise_exception('a') }}", "{% if %}"):
        answer({"template": template, "variables": {}, "now": "2000-01-01"})


def _render(environment: ImmutableSandboxedEnvironment, template: str, variables: dict[str, Any]) -> str:
    pieces: list[str] = []
    length = 0
    for piece in environment.from_string(template).generate(tools=None, documents=None, **variables):
        length += len(piece)
        if length > _TEXT_CHARACTERS:
            raise jinja2.TemplateError(f"it writes more than {_TEXT_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _limit() -> None:
    if sys.platform == "win32":
        return
    import resource

    limits = [
        (resource.RLIMIT_CPU, math.ceil(time.process_time()) + _PROCESSOR_SECONDS),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_DATA, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, _ANSWER_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ]
    for what, limit in limits:
        with contextlib.suppress(ValueError, OSError):  # macOS has some of these in name only
            resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    main()
