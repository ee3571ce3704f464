"""Downloads: pinned to a commit, only what a build reads, going on after a kill, and checked to the last byte."""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from bot.errors import AlteredDownloadError
from bot.hub.repo import Repo
from bot.hub.session import headers_of
from bot.progress import Task
from bot.records.artifacts import Release, SourceFile
from bot.source import bytes_digest, check_name, check_sizes, file_digest, is_wanted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CONNECTIONS = 4
_STOP_SECONDS = 15.0  # longer than the library waits for a piece of a file
_INCOMPLETE = ".incomplete"


def download(api: "HfApi", release: Release, folder: Path, task: Task, *, weights: bool = True) -> None:
    """Bring a release's files into ``folder``, which exists, and which nobody else writes to.

    With ``weights`` False, all but its weights.

    Files that are there already are checked, and fetched again only if they differ; a file that a killed process left
    half-way is continued. None of them may be larger than its kind may be, whatever the listing says, nor grow beyond
    its size there. Raises AlteredDownloadError when what arrived is not what the Hub's listing says; that file
    is removed.
    """
    assert release.commit is not None  # noqa: S101 - a folder's release is not downloaded
    files = [f for f in release.files if is_wanted(check_name(f.path, where=release.repo_id))]
    check_sizes(((f.path, f.size) for f in files), where=release.repo_id)  # a plan's listing may be anybody's
    files = [f for f in files if weights or not f.path.endswith(".safetensors")]
    incomplete = folder / _INCOMPLETE
    incomplete.mkdir(exist_ok=True)
    progress = _Progress(task, sum(f.size for f in files))
    fetch = partial(_fetch, Repo(api=api, id=release.repo_id), release.commit, folder, progress)
    _all_of(fetch, sorted(files, key=lambda f: -f.size), progress)
    shutil.rmtree(incomplete)


def arrived(folder: Path, file: SourceFile) -> int:
    """Return how many bytes of a file a download that was killed has left in ``folder``; it takes no more room."""
    sizes = [p.stat().st_size for p in (folder / file.path, folder / _INCOMPLETE / file.path) if p.is_file()]
    return min(sum(sizes), file.size)


def read_small(repo: Repo, commit: str, file: SourceFile) -> bytes:
    """Return the content of a small file. Raises AlteredDownloadError when it is not what the listing says."""
    content = BytesIO()
    _get(repo, commit, file, content, lambda _: None)
    if bytes_digest(content.getvalue(), lfs=file.is_lfs) != file.digest:
        raise _altered(file, repo.id)
    return content.getvalue()


class _StoppedError(Exception):
    """Another file failed, or Ctrl-C was pressed."""


class _Progress:
    """The bytes of all files together, from several threads."""

    def __init__(self, task: Task, total: int) -> None:
        self._task, self._total = task, total
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self.stopped = False

    def check(self) -> None:
        if self.stopped:
            raise _StoppedError

    def at(self, path: str, done: int) -> None:
        self.check()
        with self._lock:
            self._done[path] = done
            self._task.update("downloading", sum(self._done.values()), self._total, "bytes")


class _Bar:
    """A progress bar, for the library. Lets no file grow beyond its size."""

    def __init__(self, file: SourceFile, repo_id: str, at: Callable[[int], None], **options: Any) -> None:
        self._file, self._repo_id, self._at = file, repo_id, at
        self._done = options.get("initial", 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        self._done += count
        if self._done > self._file.size:
            raise _altered(self._file, self._repo_id)
        self._at(self._done)


def _all_of(fetch: Callable[[SourceFile], None], files: Sequence[SourceFile], progress: _Progress) -> None:
    """Fetch all files, some at a time. Ctrl-C and the first error end it.

    After an error the threads are waited for, because another job may begin with the same folder at once; but not for
    long, and not at all after Ctrl-C: one that hears nothing from the Hub could take a minute to notice.
    """
    todo: SimpleQueue[SourceFile] = SimpleQueue()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for file in files:
        todo.put(file)

    def work() -> None:
        while True:
            try:
                file = todo.get_nowait()
            except Empty:
                return
            try:
                fetch(file)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                done.put(error)
                return
            done.put(None)

    threads = [threading.Thread(target=work, name="download", daemon=True) for _ in files[:_CONNECTIONS]]
    for thread in threads:
        thread.start()
    try:
        for _ in files:
            if (error := done.get()) is not None:
                raise error
    except Exception:
        progress.stopped = True
        for thread in threads:
            thread.join(_STOP_SECONDS)
        raise
    finally:
        progress.stopped = True


def _fetch(repo: Repo, commit: str, folder: Path, progress: _Progress, file: SourceFile) -> None:
    """Bring one file to its place, whole."""
    target, part = folder / file.path, folder / _INCOMPLETE / file.path
    if target.is_file():
        if _is_whole(target, file, progress):
            progress.at(file.path, file.size)
            return
        target.unlink()
    at = partial(progress.at, file.path)
    for _ in range(2 if part.exists() else 1):  # once more if a killed process left bad bytes
        try:
            _append(repo, commit, file, part, at)
            progress.check()  # whoever gave up may have begun anew in this folder
            if _is_whole(part, file, progress):
                part.replace(target)
                return
        except AlteredDownloadError:
            progress.check()
        part.unlink()
    raise _altered(file, repo.id)


def _append(repo: Repo, commit: str, file: SourceFile, part: Path, at: Callable[[int], None]) -> None:
    """Download what is missing of a file in ``part``."""
    with part.open("r+b" if part.exists() else "x+b") as out:
        have = out.seek(0, os.SEEK_END)
        if have > file.size:
            out.truncate(0)
            have = out.seek(0)
        at(have)
        _get(repo, commit, file, out, at, have)


def _get(
    repo: Repo,
    commit: str,
    file: SourceFile,
    out: BinaryIO,
    at: Callable[[int], None],
    have: int = 0,
) -> None:
    """Append what is missing of a file. The library tries again, from where it was, when the connection breaks.

    Its ``hf_hub_download`` is not used: it begins a file anew in every process.
    """
    from huggingface_hub.file_download import http_get

    bar = partial(_Bar, file, repo.id, at)
    try:
        http_get(
            repo.url(commit, file.path),
            out,
            resume_size=have,
            headers=headers_of(repo.api)
            | {"accept-encoding": "identity"},  # a part of a compressed file has another length
            expected_size=file.size,
            tqdm_class=cast("Any", bar),
        )
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # its own check of the size
            raise _altered(file, repo.id) from error
        raise


def _is_whole(path: Path, file: SourceFile, progress: _Progress) -> bool:
    if path.stat().st_size != file.size:
        return False
    return file_digest(path, lfs=file.is_lfs, report=lambda _: progress.check()) == file.digest


def _altered(file: SourceFile, repo_id: str) -> AlteredDownloadError:
    return AlteredDownloadError(
        f"{file.path} of {repo_id} did not arrive as the Hub lists it ({file.size} bytes, {file.digest})",
        hint="It was removed. Run the same command again; if it happens again, report it to the Hub.",
    )
