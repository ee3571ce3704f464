"""The working folder: sources, references and artifacts, each under the digest of what it is.

    sources/DIGEST/     a release's files, as they are in its repo
    staged/DIGEST/      what toolchains read of them: no code, nothing that asks for any
    references/DIGEST/  the original's log-probabilities
    importances/DIGEST/ how much each input of the weights matters
    moments/DIGEST/     second moments of what each matrix is multiplied with
    sensitivities/DIGEST/  what rounding each matrix costs
    pictures/DIGEST/    those of a card
    artifacts/DIGEST/   files/, notices/, build.json, release.json, prompt.json; solved.json of a calibrated one,
                        evidence.json once it is verified
    partial/DIGEST/     of an artifact on its way: large files, and how much of each is whole
    samples/            small checkpoints that are made to try things with
    logs/               what toolchains printed
    scratch/            everything half-made
    locks/              who is at work: see bot/system/occupancy.py

A folder is made in scratch/ and renamed when it is complete, so a folder with a name here is complete. The next process
removes the files of a killed one from scratch/; those in partial/ are continued by the same build. The time of a folder
is when it was last used, and bot/building/cleaning.py goes by it. Everything here can be deleted whenever no phi-bot
is at work: the state is on the Hub.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock

from bot.errors import BuildError, DiskTooSmallError, RecordError
from bot.printable import json_text, size
from bot.progress import Display, Task
from bot.records.artifacts import Artifact, BuildRecord, FileEntry, Json, MalformedRecordError, Record, Release
from bot.records.digests import digest_of
from bot.records.evidence import EVIDENCE_VERSION, Evidence
from bot.records.json_text import parse
from bot.system import occupancy

R = TypeVar("R", bound=Record)

SOLVED = "solved.json"  #: in the folder of an artifact that is calibrated: see bot/worker/calibrated.py
_JSON_BYTES = 100_000_000  # the report of a run has some kB for each artifact
_STAGED = 2  # raise it when a view of the same files is made otherwise
_NAME_LENGTH = 32  # hex digits of a digest in a folder's name: 128 bits


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A working folder. Several processes may use one at the same time."""

    root: Path

    def source(self, release: Release) -> Path:
        """Return where a release's files are kept."""
        return self.root / "sources" / release.content_digest[:_NAME_LENGTH]

    def downloading(self, release: Release) -> Path:
        """Return where they are while they come: a killed download goes on from there."""
        folder = self.source(release)
        return folder.with_name(f"{folder.name}.partial")

    def staged(self, release: Release) -> Path:
        """Return where the view of them that toolchains read is kept."""
        return self.root / "staged" / f"{release.content_digest[:_NAME_LENGTH]}-{_STAGED}"

    def reference(self, digest: str) -> Path:
        """Return where a reference is kept."""
        return self.root / "references" / digest[:_NAME_LENGTH]

    def importance(self, digest: str) -> Path:
        """Return where an importance matrix is kept."""
        return self.root / "importances" / digest[:_NAME_LENGTH]

    def moments(self, digest: str) -> Path:
        """Return where the second moments of a release are kept."""
        return self.root / "moments" / digest[:_NAME_LENGTH]

    def sensitivities(self, digest: str) -> Path:
        """Return where it is kept what rounding each matrix of a release costs."""
        return self.root / "sensitivities" / digest[:_NAME_LENGTH]

    def artifact(self, build_key: str, release: Release) -> Path:
        """Return where an artifact is kept: by its build key, and by the release whose name its files carry."""
        digest = digest_of([build_key, release.repo_id, release.commit])
        return self.root / "artifacts" / digest[:_NAME_LENGTH]

    def partial(self, build_key: str, release: Release) -> Path:
        """Return where the large files of an artifact grow, and stay when the build is killed."""
        return self.root / "partial" / self.artifact(build_key, release).name

    def pictures(self, digest: str) -> Path:
        """Return where the pictures of a card are kept, by the digest of all that they are drawn from."""
        return self.root / "pictures" / digest[:_NAME_LENGTH]

    def log(self, name: str) -> Path:
        """Return a log file."""
        return self.root / "logs" / f"{name.replace('/', '-')}.log"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make an empty folder, removed at the end of the block; if this process is killed, by the next one."""
        self._forget_abandoned()
        folder = self.root / "scratch" / uuid.uuid4().hex
        # First the lock, then the folder: nobody may take it for abandoned.
        with occupancy.hold_new_lock(self.root, folder.with_name(f"{folder.name}.lock")):
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def only_one(self, what: str, display: Display) -> Iterator[None]:
        """Let one process at a time do ``what``; another one waits, and says so."""
        lock = FileLock(self.root / "locks" / f"{what}.lock")
        if not occupancy.acquire(self.root, lock, wait=False):
            display.say(f"Another phi-bot is at work on {what}; waiting for it …")
            occupancy.acquire(self.root, lock, wait=True)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let nothing be cleaned away that the block uses: what ``has`` says is there, and what is made in it."""
        with occupancy.keep_from_cleaning(self.root):
            yield

    def has(self, folder: Path) -> bool:
        """Say whether something is kept. It is then used, so that it is not cleaned away."""
        return occupancy.use(self.root, folder)

    def free(self) -> int:
        """Return the bytes that are free where this workspace is."""
        self.root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.root).free

    def _forget_abandoned(self) -> None:
        for left in occupancy.abandoned(self.root):
            occupancy.remove(left)

    def need_disk(self, needed: int, what: str) -> None:
        """Raise DiskTooSmallError unless ``needed`` bytes are free where this workspace is.

        Files that killed processes left half-made are removed first where there is too little room.
        """
        free = self.free()
        if free < needed:
            self._forget_abandoned()
            free = self.free()
        if free < needed:
            raise DiskTooSmallError(
                f"{what} needs about {size(needed)} of disk and {size(free)} are free in {self.root}",
                hint="Free some disk, choose fewer variants, or name another folder with --work.",
            )


# ---- artifacts -----------------------------------------------------------------------------------------------


def read_artifact(folder: Path) -> Artifact:
    """Read an artifact's records. Raises RecordError when the folder is none, or its records are malformed."""
    build = read_record(folder / "build.json", BuildRecord)
    evidence_file = folder / "evidence.json"
    evidence = None
    if evidence_file.exists() and _version(evidence_file) == EVIDENCE_VERSION:  # other ones are measured anew
        evidence = read_record(evidence_file, Evidence)
    return Artifact(folder=str(folder), build=build, evidence=evidence)


def solved_file(artifact: Artifact) -> str:
    """Return the file of what a calibrated build rounded its matrices to, beside its files; "" without one."""
    file = Path(artifact.folder) / SOLVED
    return str(file) if file.exists() else ""


def _version(path: Path) -> Json:
    value = read_json(path)
    return value.get("version") if isinstance(value, dict) else None


def read_release(folder: Path) -> Release:
    """Read the release that an artifact was built from."""
    return read_record(folder / "release.json", Release)


def hash_files(folder: Path, task: Task, known: Mapping[str, str] | None = None) -> tuple[FileEntry, ...]:
    """Return size and sha256 of every file below a folder, in the order of their paths.

    ``known`` are those, by path, that were taken as the files were written: they are not read again. Raises BuildError
    for a link or anything else that is not a file: a toolchain does not make any.
    """
    digests = dict(known or {})
    paths = sorted(p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink())
    names = [p.relative_to(folder).as_posix() for p in paths]
    total = sum(p.stat().st_size for name, p in zip(names, paths, strict=True) if name not in digests)
    entries, done = [], 0
    for name, path in zip(names, paths, strict=True):
        if path.is_symlink() or not path.is_file():
            raise BuildError(f"{path.name} is not a regular file", hint="A toolchain left a link; please report it.")
        if name not in digests:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    done += len(chunk)
                    task.update("hashing", done, total, "bytes")
            digests[name] = digest.hexdigest()
        entries.append(FileEntry(path=name, size=path.stat().st_size, sha256=digests[name]))
    return tuple(entries)


def read_record(path: Path, kind: type[R]) -> R:
    """Read a record from a file. Raises RecordError, naming the file, when it is not there or malformed."""
    return _record(read_json(path), kind, str(path))


def read_record_from(stream: BinaryIO, kind: type[R], *, name: str) -> R:
    """Read a record from an open stream, to its end; ``name`` is what errors call it. Raises RecordError."""
    return _record(_json(stream, name), kind, name)


def read_json(path: Path) -> Json:
    """Read a JSON file. Raises RecordError, naming it, when it is missing, not JSON, or larger than 100 MB."""
    try:
        with path.open("rb") as file:
            return _json(file, str(path))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}", hint="Is it the right folder or file?") from error


def _record(value: Json, kind: type[R], name: str) -> R:
    try:
        return kind.from_json(value)
    except MalformedRecordError as error:
        raise RecordError(
            f"{name} is not a valid {kind.__name__}: {error}", hint="Was it written by another version of phi-bot?"
        ) from error


def _json(stream: BinaryIO, name: str) -> Json:
    content = stream.read(_JSON_BYTES + 1)
    if len(content) > _JSON_BYTES:
        raise RecordError(f"{name} has more than {_JSON_BYTES} bytes", hint="Is it the right file?")
    try:
        return parse(content.decode())
    except ValueError as error:
        raise RecordError(f"{name} is not JSON: {error}", hint="Write it again with --json.") from error


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file so that at any moment there is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
