"""HTTP over a LocalHub, on loopback."""

import errno
import logging
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from bot.errors import LocalHubError
from bot.localhub.automation import Automation, automation
from bot.localhub.headers import password, printable, request_id
from bot.localhub.limits import ServerLimits
from bot.localhub.refused import RefusedError, bad_request
from bot.localhub.requests import NOWHERE, Requests, kind_of
from bot.localhub.routes import ROUTES, error_response
from bot.localhub.store import LocalHub
from bot.localhub.tokens import Grant
from bot.localhub.web import Body, FilePart, Request, Response, StreamedBody, route

log = logging.getLogger(__name__)

_IDLE_SECONDS = 120
_LINGER_BYTES = 64 << 20  # of a refused body, read and dropped so that the caller sees the answer
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"  # for whatever a repo holds


@dataclass(frozen=True, kw_only=True)
class RunningHub:
    """A server that answers. ``token`` is the owner's and may write everywhere; never print it."""

    url: str
    token: str = field(repr=False)
    token_file: Path
    hub: LocalHub
    requests: Requests
    automation: Automation


@contextmanager
def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tokens: Mapping[str, Grant] | None = None,
    limits: ServerLimits | None = None,
    jobs: bool = False,
) -> Iterator[RunningHub]:
    """Run a Hub over a folder in a thread until the block ends. Port 0 takes a free one.

    With ``jobs`` it runs commands of whoever has a token that may write. Raises LocalHubError when the folder is
    something else, or the address is taken or not loopback.
    """
    with _listening(folder, host, port, tokens=tokens, limits=limits, jobs=jobs) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield _running(server)
        finally:
            server.shutdown()
            thread.join()


def serve_forever(
    folder: Path, host: str, port: int, on_ready: Callable[[RunningHub], None], *, jobs: bool = False
) -> None:
    """Run a Hub over a folder until an interrupt. ``on_ready`` is called once, when it answers."""
    with _listening(folder, host, port, jobs=jobs) as server:
        on_ready(_running(server))
        server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], hub: LocalHub, automation: Automation) -> None:
        self.hub = hub
        self.automation = automation
        self.requests = Requests()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("a connection ended: %s", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "phi-bot"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = Body(self.rfile, 0)  # type: ignore[arg-type]
        path, _, query = self.path.partition("?")
        kind = f"{self.command} {NOWHERE}"
        try:
            body = Body(self.rfile, self._length())  # type: ignore[arg-type]
            request = Request(
                hub=self.server.hub,
                method=self.command,
                base=self._base(),
                path=path,
                query=_query(query),
                raw_query=query,
                headers={k.lower(): v for k, v in self.headers.items()},
                body=body,
                grant=self._grant(),
                automation=self.server.automation,
            )
            chosen, found = route(ROUTES, self.command, path)
            kind = kind_of(self.command, chosen.pattern, found)
            with nullcontext() if self.command in ("GET", "HEAD") else self.server.hub.scratch.writing():
                response = chosen.handler(request, **found)
        except RefusedError as e:
            response = error_response(e, wants_page="text/html" in self.headers.get("Accept", ""))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception as e:  # noqa: BLE001 - one bad request must not end the connection without an answer
            response = error_response(_unexpected(e), wants_page=False)
        self.server.requests.add(kind)
        if self.server.hub.limits.latency:
            time.sleep(self.server.hub.limits.latency)
        self._send(response, body)

    def _send(self, response: Response, body: Body) -> None:
        if body.left:
            self.close_connection = True
        self.send_response(response.status)
        given = (self.headers.get(name) for name in ("X-Request-Id", "X-Amzn-Trace-Id"))  # as the real Hub takes them
        self.send_header("X-Request-Id", request_id(*given))
        for name, value in ({"Content-Security-Policy": _NO_PAGE} | _SAFE_HEADERS | dict(response.headers)).items():
            self.send_header(name, printable(value))
        if isinstance(response.body, StreamedBody):
            self.send_header("Transfer-Encoding", "chunked")
        elif response.status != HTTPStatus.NOT_MODIFIED:
            count = response.body.count if isinstance(response.body, FilePart) else len(response.body)
            self.send_header("Content-Length", str(count))
        if self.close_connection:
            self.send_header("Connection", "close")
        with suppress(ConnectionError, TimeoutError):
            self.end_headers()
            self._send_body(response.body)
            if body.left:
                self._linger(body)

    def _send_body(self, body: bytes | FilePart | StreamedBody) -> None:
        if isinstance(body, FilePart):
            with body.file:
                if self.command != "HEAD" and body.count:
                    try:
                        self.connection.sendfile(body.file, body.offset, body.count)
                    finally:  # a caller may take a part of it
                        self.server.requests.add_sent(max(body.file.tell() - body.offset, 0))
        elif isinstance(body, StreamedBody):
            for chunk in body.chunks if self.command != "HEAD" else ():
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if self.command != "HEAD":
                self.wfile.write(b"0\r\n\r\n")
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _linger(self, body: Body) -> None:
        # closing with unread bytes would reset the connection, and the caller might never see the answer
        self.connection.shutdown(socket.SHUT_WR)
        dropped = 0
        for chunk in body.chunks():
            dropped += len(chunk)
            if dropped > _LINGER_BYTES:
                return

    def _length(self) -> int:
        if self.headers.defects or any("\n" in value for value in self.headers.values()):
            self.close_connection = True
            raise bad_request("the header of the request is malformed")
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, not a Transfer-Encoding")
        if not lengths:
            if self.command == "PUT":
                raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
            return 0
        text = lengths[0].strip()
        if len(lengths) > 1 or not (text.isascii() and text.isdigit() and len(text) < 19):
            self.close_connection = True  # where this request ends is not known
            raise bad_request("the Content-Length is not a number")
        return int(text)

    def _base(self) -> str:
        # a page of another site can make a name of its own lead here, and would then be this Hub's own page
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "the embedded Hub answers to loopback names only")
        return f"http://{hosts[0]}"

    def _grant(self) -> Grant | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() == "basic" and self.command in ("GET", "HEAD"):  # a browser sends it by itself: to read only
            token = password(token)
        elif scheme.lower() != "bearer":
            token = ""
        grant = self.server.hub.tokens.find(token.strip())
        if grant is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
        return grant

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ARG002
        log.debug("%s %s", self.command, self.path.partition("?")[0])  # the query may hold a signature


def _unexpected(error: Exception) -> RefusedError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, "the disk of the embedded Hub is full")
    log.error("a request failed", exc_info=error)
    return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, f"the embedded Hub failed: {type(error).__name__}")


@contextmanager
def _listening(
    folder: Path,
    host: str,
    port: int,
    *,
    tokens: Mapping[str, Grant] | None = None,
    limits: ServerLimits | None = None,
    jobs: bool = False,
) -> Iterator[_Server]:
    if host != "localhost" and not _is_loopback(host):
        raise LocalHubError(f"the embedded Hub listens on loopback only, not on {host}", hint="Use --host 127.0.0.1.")
    with LocalHub(folder, tokens=tokens, limits=limits) as hub, automation(hub, runs=jobs) as automatic:
        try:
            server = _Server((host, port), hub, automatic)
        except (OSError, OverflowError) as e:
            raise LocalHubError(f"{host}:{port} cannot be listened on: {e}", hint="Use --port 0 for a free one.") from e
        with server:
            yield server


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _running(server: _Server) -> RunningHub:
    hub = server.hub
    host, port = server.server_address[:2]
    name = f"[{host!s}]" if ":" in str(host) else str(host)
    return RunningHub(
        url=f"http://{name}:{port}",
        token=hub.token_file.read_text(),
        token_file=hub.token_file,
        hub=hub,
        requests=server.requests,
        automation=server.automation,
    )


def _query(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=5000)
    except (ValueError, UnicodeDecodeError):
        raise bad_request("the query cannot be read") from None
