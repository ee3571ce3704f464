"""A proxy in front of the embedded Hub that breaks chosen answers: what a network and a busy server do to a client."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f](?=(?:[0-9a-f]{39}|[0-9a-f]{63})(?![0-9a-f]))")


@dataclass(kw_only=True)
class Fault:
    """What happens to a request whose method and path match: ``times`` it, then no more; never to the first ``after``.

    The method "" is any. ``refuse`` ends all connections and takes no more of them, until ``Proxy.listen``; ``lose``
    passes the request on and drops the answer; ``cut`` hangs up after so many bytes of the body; ``half`` does so in
    its middle; ``stall`` sends that many and then nothing more; ``alter`` flips the first bit of a file, on its way up
    or down, and in any other answer the first digit of each hash; ``twice`` sends the answer twice; ``status`` answers
    in the Hub's place; ``body`` takes the place of the Hub's body.
    """

    method: str
    path: str
    times: int = 1_000
    after: int = 0
    refuse: bool = False
    lose: bool = False
    cut: int | None = None
    half: bool = False
    stall: int | None = None
    alter: bool = False
    twice: bool = False
    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Proxy:
    """A proxy to the Hub at ``target``. ``seen`` holds method, path and headers of every request, in lower case."""

    target: str
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _server: "_Server | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, path: str) -> int:
        """Return how many requests matched."""
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what is to happen to a request, and count it."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method in ("", method) and re.search(fault.path, path):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def listen(self) -> None:
        """Take connections, if it does not."""
        with self._lock:
            if self._server is None:
                self._server = _Server(self)
                self.port = self._server.server_port

    def refuse(self) -> None:
        """End all connections and take no more."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.end()


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy to the Hub at ``target`` until the block ends."""
    running = Proxy(target=target)
    running.listen()
    try:
        yield running
    finally:
        running.over.set()
        running.refuse()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, running: Proxy) -> None:
        self.running = running
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", running.port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up here all the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a short answer leaves in one piece, also where it is sent twice
    server: _Server

    def do_GET(self) -> None:
        running = self.server.running
        running.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = running.fault(self.command, self.path) or Fault(method="", path="")
        if fault.refuse:
            self.close_connection = True
            running.refuse()
            return
        if fault.status is not None:
            self._send(fault.status, fault.headers, fault.body or b"", fault)
            return
        if fault.alter and self.command == "PUT":
            body = _flipped(body)
        parts = urlsplit(running.target)
        upstream = http.client.HTTPConnection(str(parts.hostname), parts.port)
        with suppress(ConnectionError):
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
            if fault.lose:
                self._hang_up()
                return
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("content-length", "connection")}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.headers.get("Content-Length", "0")
            if fault.alter and self.command != "PUT":
                is_file = "/api/" not in self.path and "/info/lfs/" not in self.path
                content = _flipped(content) if is_file else _DIGEST.sub(_other_digit, content)
            self._send(answer.status, headers, content if fault.body is None else fault.body, fault)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _send(self, status: int, headers: dict[str, str], content: bytes, fault: Fault) -> None:
        for _ in range(2 if fault.twice else 1):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            cut = len(content) // 2 if fault.half else fault.cut
            if self.command != "HEAD":
                self.wfile.write(content[: cut if fault.stall is None else fault.stall])
        if fault.stall is not None:
            self.wfile.flush()
            self.server.running.over.wait()
        if cut is not None:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        pass


def _flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:] if content else content


def _other_digit(digit: re.Match[bytes]) -> bytes:
    return b"1" if digit.group() == b"0" else b"0"
