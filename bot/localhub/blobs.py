"""The bytes of all files, each named by its sha256 and never changed."""

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from bot.localhub.durable import Scratch, move_into_place, shared, sync_file
from bot.localhub.refused import RefusedError, bad_request, not_found

CHUNK = 1 << 20
UPLOAD_LIFETIME = 24 * 3600  # seconds; an upload in parts that has not ended by then is given up


@dataclass(frozen=True, kw_only=True)
class Blobs:
    """Blobs under one folder. ``uploads`` holds the files that still wait for parts.

    ``lock_file`` keeps those that touch a blob apart from the one that removes it (see ``bot.localhub.garbage``).
    """

    folder: Path
    lock_file: Path
    uploads: Path
    scratch: Scratch

    def path(self, sha256: str) -> Path:
        """Return where a blob is, or would be."""
        return self.folder / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Return a blob's size in bytes, or None when it is not there."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def names(self) -> Iterator[str]:
        """Yield the sha256 of every blob."""
        for folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            yield from os.listdir(folder)  # noqa: PTH208 - many names, and no need of their paths

    def keep(self, sha256: str) -> bool:
        """Say whether a blob is there, and that something is about to refer to it: from now on it stays."""
        with shared(self.lock_file):
            try:
                os.utime(self.path(sha256))
            except FileNotFoundError:
                return False
        return True

    def remove(self, sha256: str, before: int) -> int | None:
        """Remove a blob that was last touched before a time (ns), and return its size; None if it was not."""
        path = self.path(sha256)
        with shared(self.lock_file, alone=True):
            try:
                found = path.stat()
            except FileNotFoundError:
                return 0
            if found.st_mtime_ns >= before:
                return None
            path.unlink()
        return found.st_size

    def add(self, content: bytes) -> str:
        """Store bytes and return their sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.keep(sha256):
            self.scratch.write(self.path(sha256), content, mode=0o444)
        return sha256

    def receive(self, chunks: Iterable[bytes], *, sha256: str, size: int) -> None:
        """Store a stream of which the hash and the size were promised; refuses another content."""
        with self.scratch.file() as file:
            digest, count = hashlib.sha256(), 0
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    break
                digest.update(chunk)
                file.write(chunk)
            _expect(sha256, size, digest.hexdigest(), count)
            os.fchmod(file.fileno(), 0o444)
            sync_file(file)
            move_into_place(Path(file.name), self.path(sha256))

    def begin_parts(self, size: int) -> str:
        """Make room for an upload in parts and return its name."""
        self.uploads.mkdir(exist_ok=True)
        self.drop_old_uploads()
        name = secrets.token_hex(16)
        with (self.uploads / name).open("xb") as file:
            file.truncate(size)
        return name

    def receive_part(self, name: str, chunks: Iterable[bytes], *, offset: int, size: int) -> str:
        """Store one part and return its sha256. The lock keeps it from writing into a finished blob."""
        with self._open_upload(name, fcntl.LOCK_SH) as file:
            file.seek(offset)
            digest, count = hashlib.sha256(), 0
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    break
                digest.update(chunk)
                file.write(chunk)
            if count != size:
                raise bad_request(f"this part has {size} bytes, and {count} or more came")
            return digest.hexdigest()

    def finish_parts(self, name: str, *, sha256: str, size: int) -> None:
        """Turn an upload in parts into a blob, or refuse it when the whole does not have the promised hash."""
        with self._open_upload(name, fcntl.LOCK_EX) as file:
            digest, count = hashlib.sha256(), 0
            while chunk := file.read(CHUNK):
                count += len(chunk)
                digest.update(chunk)
            _expect(sha256, size, digest.hexdigest(), count)
            os.fchmod(file.fileno(), 0o444)
            os.utime(file.fileno())  # its last part may have come long ago
            sync_file(file)
            move_into_place(self.uploads / name, self.path(sha256))

    def drop_old_uploads(self) -> None:
        """Remove uploads in parts that nobody may end any more."""
        if not self.uploads.is_dir():
            return
        for left in self.uploads.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > UPLOAD_LIFETIME:
                    left.unlink()

    def _open_upload(self, name: str, lock: int) -> BinaryIO:
        path = self.uploads / name
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            raise not_found("EntryNotFound", "this upload has ended or was given up; begin it again") from None
        try:
            fcntl.flock(file, lock | fcntl.LOCK_NB)
            current = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except BlockingIOError:
            file.close()
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "parts of this upload are still arriving") from None
        except FileNotFoundError:
            current = False
        if not current:
            file.close()
            raise not_found("EntryNotFound", "this upload has ended; begin it again")
        return file


def _expect(sha256: str, size: int, got_sha256: str, got_size: int) -> None:
    if got_size != size:
        raise bad_request(f"{size} bytes were promised, and {got_size} came")
    if got_sha256 != sha256:
        raise bad_request(f"the content has sha256 {got_sha256}, not {sha256}")
