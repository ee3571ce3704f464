"""Evaluates the expressions of GitHub's that action.yml uses, and refuses any other one.

Strings compare without regard to case, a property that is not there is the empty string, and what counts as true is
what GitHub says: anything but false, 0, null and the empty string.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z_][\w.-]*)|(?P<sign>==|!=|&&|\|\||[!(),]))")
_WHOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)

Functions = Mapping[str, Callable[..., Any]]


def evaluate(expression: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """Return the value of an expression without its ``${{ }}``. Raises ValueError for what is not known here."""
    parser = _Parser(_tokens(expression), contexts, _FUNCTIONS | dict(functions))
    value = parser.either()
    if parser.left:
        raise ValueError(f"{expression!r}: {parser.left[0]!r} was not expected")
    return value


def fill_in(text: str, contexts: Mapping[str, Any], functions: Functions) -> str:
    """Return a text with its ``${{ }}`` replaced by their values."""
    return _WHOLE.sub(lambda found: as_text(evaluate(found[1], contexts, functions)), text)


def as_text(value: Any) -> str:
    """Return a value as it stands in a text."""
    return {True: "true", False: "false", None: ""}.get(value, value) if not isinstance(value, str) else value


def _tokens(expression: str) -> list[str]:
    found, at = [], 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"{expression!r}: cannot read {expression[at:]!r}")
        found.append(match[0].strip())
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str], contexts: Mapping[str, Any], functions: Functions) -> None:
        self.left, self._contexts, self._functions = tokens, contexts, functions

    def either(self) -> Any:
        value = self._both()
        while self._next("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._equal()
        while self._next("&&"):
            other = self._equal()
            value = other if value else value
        return value

    def _equal(self) -> Any:
        value = self._not()
        while sign := self._next("==") or self._next("!="):
            same = _folded(value) == _folded(self._not())
            value = same if sign == "==" else not same
        return value

    def _not(self) -> Any:
        return not self._not() if self._next("!") else self._one()

    def _one(self) -> Any:
        if not self.left:
            raise ValueError("an expression ends too early")
        token = self.left.pop(0)
        if token == "(":
            value = self.either()
            self._need(")")
            return value
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if self._next("("):
            return self._call(token)
        return _look_up(token, self._contexts)

    def _call(self, name: str) -> Any:
        if name not in self._functions:
            raise ValueError(f"the function {name} is not known here")
        arguments = []
        while not self._next(")"):
            arguments.append(self.either())
            self._next(",")
        return self._functions[name](*arguments)

    def _next(self, token: str) -> str | None:
        return self.left.pop(0) if self.left and self.left[0] == token else None

    def _need(self, token: str) -> None:
        if not self._next(token):
            raise ValueError(f"{token!r} is missing")


def _look_up(path: str, contexts: Mapping[str, Any]) -> Any:
    first, *rest = path.split(".")
    if first not in contexts:
        raise ValueError(f"the context {first} is not known here")
    value = contexts[first]
    for name in rest:
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return value


def _folded(value: Any) -> str:
    return as_text(value).lower()


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "contains": lambda text, part: _folded(part) in _folded(text),
    "startsWith": lambda text, part: _folded(text).startswith(_folded(part)),
}
