"""The engine of cards: Jinja2 as transformers sets it up, in a child with limits (see renderer.py).

It takes ``template``, ``variables`` (the special tokens) and ``now`` (ISO 8601). Jinja2's sandbox keeps a template from
Python's internals.
"""

import json
import random
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bot.records.artifacts import Json
from bot.worker.renderer import CHARACTERS, Render, TooMuchError, main


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


def engine(given: Json) -> Render:
    """Return what renders conversations with the template that is given."""
    environment = _environment(datetime.fromisoformat(given["now"]))

    def render(chat: Json, template: str | None) -> str:
        random.seed(0)  # the filter of that name: a card is the same each time
        variables = {
            **given["variables"],
            "messages": chat["messages"],
            "tools": chat["tools"],
            "documents": None,
            "add_generation_prompt": chat["add_generation_prompt"],
        }
        pieces: list[str] = []
        length = 0
        for piece in environment.from_string(template or given["template"]).generate(**variables):
            length += len(piece)
            if length > CHARACTERS:
                raise TooMuchError
            pieces.append(piece)
        return "".join(pieces)

    return render


def _environment(now: datetime) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise, strftime_now=now.strftime, namespace=_Namespace)
    return environment


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


if __name__ == "__main__":
    main(engine)
