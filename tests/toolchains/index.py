"""A package index on loopback with packages made on the spot, and locks of them."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

HEAD = """\
# /// toolchain
# disk = {disk}
# imports = [{imports}]
# [platforms]
# linux-x86_64 = {{ pythons = ["3.11", "3.12", "3.13", "3.14"] }}
# linux-aarch64 = {{ pythons = ["3.11", "3.12", "3.13", "3.14"] }}
# macos-arm64 = {{ pythons = ["3.11", "3.12", "3.13", "3.14"] }}
# ///
"""


def wheel(folder: Path, name: str, version: str = "1.0", *, padding: int = 0) -> Path:
    """Make a wheel with one module, which knows its version, and ``padding`` bytes that cannot be compressed away."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version.replace('+', '_')}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{name}.bin", bytes(padding))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


def lock(*wheels: Path, disk: int = 1, imports: str = "") -> str:
    """Return a lock of wheels."""
    pins = []
    for file in wheels:
        name, version = file.name.split("-")[:2]
        pins.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    return HEAD.format(disk=disk, imports=imports) + "".join(pins)


@dataclass
class Index:
    """A running index over a folder of wheels. Requests for ``held`` files wait until ``go`` is set."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)  # paths, in order
    held: str | None = None
    reached: threading.Event = field(default_factory=threading.Event)  # a held file was asked for
    go: threading.Event = field(default_factory=threading.Event)

    @property
    def downloads(self) -> list[str]:
        """The files that were downloaded, in order."""
        return [path.rsplit("/", 1)[-1] for path in self.asked if path.endswith(".whl")]


@contextmanager
def serve(folder: Path) -> Iterator[Index]:
    """Serve a folder of wheels as an index."""
    index = Index(folder=folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if index.held is not None and self.path.endswith(index.held):
                index.reached.set()
                index.go.wait(60)
            if self.path.startswith("/files/"):
                self._answer((folder / unquote(self.path).removeprefix("/files/")).read_bytes(), "application/zip")
                return
            name = self.path.strip("/").rsplit("/", 1)[-1]
            files = sorted(f.name for f in folder.glob(f"{name}-*.whl"))
            links = "".join(f'<a href="/files/{f}">{f}</a>' for f in files)
            self._answer(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield index
    finally:
        index.go.set()
        server.shutdown()
        server.server_close()
