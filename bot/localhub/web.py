"""Requests and responses, and the table that leads from one to the other. Nothing here knows what a repo is."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import unquote

from bot.localhub.automation import Automation
from bot.localhub.blobs import CHUNK
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.store import LocalHub
from bot.localhub.tokens import Grant


class Body:
    """The body of a request: ``length`` bytes, read once and never all at once unless bounded."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self.left = length
        self.length = length

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces; ConnectionError when the caller hangs up in the middle."""
        while self.left:
            yield self._read(min(CHUNK, self.left))

    def lines(self, *, most: int, longest: int) -> Iterator[bytes]:
        """Yield the body's lines; refuses more than ``most`` bytes, and a line of more than ``longest`` bytes."""
        if self.length > most:
            raise _too_large(most)
        while self.left:
            line = self._stream.readline(min(longest, self.left))
            self._count(line)
            if not line.endswith(b"\n") and self.left:
                raise _too_large(longest)
            if line.strip():
                yield line

    def json(self, *, most: int) -> dict[str, Any]:
        """Return the body as a JSON object; an empty body is an empty object."""
        if self.length > most:
            raise _too_large(most)
        return json_object(b"".join(self.chunks()) or b"{}")

    def text(self, *, most: int) -> str:
        """Return the body as text."""
        if self.length > most:
            raise _too_large(most)
        try:
            return b"".join(self.chunks()).decode()
        except UnicodeDecodeError:
            raise bad_request("the body is not UTF-8") from None

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        if not data:
            raise ConnectionAbortedError("the caller hung up in the middle of a body")
        self.left -= len(data)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request. ``base`` is this Hub's address as the caller wrote it: ``http://127.0.0.1:8080``."""

    hub: LocalHub
    method: str
    base: str
    path: str
    query: Mapping[str, list[str]]
    raw_query: str
    headers: Mapping[str, str]
    body: Body
    grant: Grant | None
    automation: Automation

    def one(self, name: str) -> str | None:
        """Return a parameter of the query, or None."""
        values = self.query.get(name)
        return values[-1] if values else None

    def flag(self, name: str) -> bool:
        """Return a parameter that is true or false."""
        return (self.one(name) or "").lower() in ("1", "true")

    def number(self, name: str, default: int) -> int:
        """Return a parameter that counts something."""
        text = self.one(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise bad_request(f"the parameter {name} is {text!r}, not a number")
        return int(text)

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object."""
        return self.body.json(most=self.hub.limits.json_body)


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """A part of an open file, sent without passing through memory, then closed."""

    file: BinaryIO
    offset: int
    count: int


@dataclass(frozen=True, kw_only=True)
class StreamedBody:
    """A body of unknown length, sent as it comes."""

    chunks: Iterator[bytes]


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer. A HEAD request gets the same without its body."""

    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FilePart | StreamedBody = b""


Handler = Callable[..., Response]


@dataclass(frozen=True, kw_only=True)
class Route:
    """``{x}`` stands for one segment of the path, ``{x*}`` for the rest of it, which may be empty."""

    method: str
    pattern: str
    handler: Handler
    fixed: Mapping[str, str] = field(default_factory=dict)


def route(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a path and what its pattern found there; a 404 or a 405 when there is none.

    Segments are split before they are decoded: an encoded slash stays inside its segment.
    """
    segments = _segments(path)
    allowed = False
    for candidate in routes:
        found = _match(candidate.pattern, segments)
        if found is not None:
            if candidate.method == ("GET" if method == "HEAD" else method):
                return candidate, {**candidate.fixed, **found}
            allowed = True
    if allowed:
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not for this address")
    raise RefusedError(HTTPStatus.NOT_FOUND, "the embedded Hub has nothing at this address")


def json_response(
    value: Any, *, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return Response(
        status=status, headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body=body
    )


def json_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object that a stranger wrote."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise bad_request("this is not JSON") from None
    if not isinstance(value, dict):
        raise bad_request("this is not a JSON object")
    return value


def string(value: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return a text of a JSON object, or refuse the object."""
    found = value.get(key, default)
    if not isinstance(found, str):
        raise bad_request(f"{key!r} is missing, or is not text")
    if any("\ud800" <= c <= "\udfff" for c in found):
        raise bad_request(f"{key!r} holds half a character")
    return found


def _segments(path: str) -> list[str]:
    if not path.startswith("/"):
        raise bad_request("the address does not begin with a slash")
    try:
        found = [unquote(s, errors="strict") for s in path[1:].split("/")]
    except UnicodeDecodeError:
        raise bad_request("the address is not UTF-8") from None
    return found[:-1] if found[-1] == "" else found


def _match(pattern: str, segments: list[str]) -> dict[str, str] | None:
    parts = pattern[1:].split("/") if pattern != "/" else []
    found: dict[str, str] = {}
    for i, part in enumerate(parts):
        if part.endswith("*}"):
            found[part[1:-2]] = "/".join(segments[i:])
            return found
        if i >= len(segments):
            return None
        if part.startswith("{"):
            suffix = part[part.index("}") + 1 :]
            if not segments[i].endswith(suffix) or segments[i] == suffix:
                return None
            found[part[1 : part.index("}")]] = segments[i][: len(segments[i]) - len(suffix)]
        elif part != segments[i]:
            return None
    return found if len(parts) == len(segments) else None


def _too_large(most: int) -> RefusedError:
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than the {most} bytes that are taken here")
