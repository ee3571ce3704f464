"""A proxy in front of the embedded Hub that breaks chosen answers: what a network and a busy server do to a client."""

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit


@dataclass(kw_only=True)
class Fault:
    """What happens to a request whose method and path match; ``times`` it, then no more.

    ``lose`` passes it on and drops the answer; ``cut`` hangs up after so many bytes of the body; ``stall`` sends that
    many and then nothing more; ``alter`` flips the body's first bit; ``status`` answers in the Hub's place; ``body``
    takes the place of the Hub's body.
    """

    method: str
    path: str
    times: int = 1_000
    lose: bool = False
    cut: int | None = None
    stall: int | None = None
    alter: bool = False
    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Proxy:
    """A running proxy. ``seen`` holds method, path and headers of every request, in lower case."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def count(self, method: str, path: str) -> int:
        """Return how many requests matched."""
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.seen)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what is to happen to a request, and count it."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy to the Hub at ``target`` until the block ends."""

    over = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            running.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = running.fault(self.command, self.path) or Fault(method="", path="")
            if fault.status is not None:
                self._send(fault.status, fault.headers, fault.body or b"", fault)
                return
            parts = urlsplit(target)
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
                self._send(answer.status, headers, content if fault.body is None else fault.body, fault)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def _send(self, status: int, headers: dict[str, str], content: bytes, fault: Fault) -> None:
            if fault.alter:
                content = bytes([content[0] ^ 1]) + content[1:]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: fault.cut if fault.stall is None else fault.stall])
            if fault.stall is not None:
                self.wfile.flush()
                over.wait()
            if fault.cut is not None:
                self.wfile.flush()
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Proxy(url=f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
