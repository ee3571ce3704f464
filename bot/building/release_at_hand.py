"""Fetch a release: its files in the working folder, checked, and the view of them that toolchains read.

Where the disk is too small for the weights, only what is beside them is fetched, and they stream
(bot/building/streams.py).
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from bot import source
from bot.building.streams import Reader, ReadRange, WeightStream
from bot.context import Context
from bot.errors import BuildError, ChangedSourceError
from bot.hub.download import arrived
from bot.hub.headers import TensorRange
from bot.machines import worker_limits
from bot.printable import size
from bot.progress import Display
from bot.records.artifacts import Json, Record, Release, SourceFile
from bot.source import merged, sparse_files
from bot.source.chat_template import check_limits
from bot.source.config import read_config
from bot.source.folder import WRITTEN
from bot.source.joined import JoinedFile
from bot.source.shape import Shape, local_shape
from bot.source.sparse_files import room
from bot.system import disk
from bot.toolchains import Toolchain
from bot.toolchains.enter import Ending, Supervision, run_worker
from bot.workspace import Workspace

_NO_DIGEST = f"sha256:{'0' * 64}"  # of a file that is made here, which nobody asks for
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """A release that toolchains can read in ``folder``; with a ``stream``, its weights come through that.

    A ``reader`` is the place at the stream of one worker that shares it with others, and ``ending`` what can end it.
    ``open_written`` opens the stream of the model as it was saved: of a copy, whose matrices come joined through
    ``stream``, that is another one.
    """

    folder: Path
    stream: WeightStream | None = None
    reader: Reader | None = None
    ending: Ending | None = None
    open_written: Callable[[], WeightStream] | None = None

    @contextmanager
    def as_written(self) -> Iterator["AtHand"]:
        """Have the release as it was saved for the block: it differs of a copy alone (see source/copies.py)."""
        written = self.folder / WRITTEN
        if not written.is_dir():
            yield self
        elif self.open_written is None:
            yield AtHand(folder=written)
        else:
            with self.open_written() as stream:
                yield AtHand(folder=written, stream=stream, ending=self.ending)

    @cached_property
    def shape(self) -> Shape:
        """The model's tensors, from the headers."""
        return local_shape(self.folder, read_config(self.folder))

    def run_worker(
        self,
        toolchain: Toolchain,
        module: str,
        command: str,
        task: Record,
        *,
        log: Path,
        on_event: Callable[[dict[str, Json]], None],
    ) -> Json:
        """Run a worker that reads the release. Raises what ``run_worker`` itself does, or the stream's error."""
        stream = self.stream
        alone = Supervision(log=log, on_event=on_event, limits=worker_limits.task_limits(task, self.shape))
        if stream is None:
            return run_worker(toolchain, module, command, task, alone)
        reader = stream.reader() if self.reader is None or self.reader.closed else self.reader

        def served(event: dict[str, Json]) -> None:
            if not reader.take(event):
                on_event(event)

        streaming = replace(alone, on_event=served, on_start=reader.begin, ending=self.ending)
        try:
            with reader:
                done = run_worker(toolchain, module, command, task, streaming)
        except BuildError as error:
            if stream.error is not None:  # which is what it failed of
                raise stream.error from error
            raise
        if stream.error is not None:  # a worker that took it for a fault of the artifact
            raise stream.error
        return done


@contextmanager
def at_hand(release: Release, context: Context, *, streamed: bool, keep_head: bool = False) -> Iterator[AtHand]:
    """Have a release at hand for the block: all of it, fetched once and kept, or ``streamed`` if it is not there yet.

    With ``keep_head`` the output matrix stays once it came: the reference and every verification need it. Raises what
    ``fetch`` raises.
    """
    if not streamed or not can_stream(release, context.workspace):
        yield AtHand(folder=fetch(release, context))
        return
    hub, display = context.hub, context.display
    with context.workspace.scratch() as scratch:
        folder = scratch / "source"
        folder.mkdir()
        read: ReadRange
        if release.base is None:
            with display.task(f"Reading the headers of {release.label}") as task:
                places = hub.outline(release, folder, task)
            read = partial(hub.read_range, release)
        else:
            places, read = _merged_outline(release, release.base, scratch, folder, context)
        source.check(folder)
        staged = scratch / "staged"
        _stage(release, folder, staged, display, holes=True)
        most = room(release.weight_bytes)
        stream = partial(WeightStream, ahead=most // 4, most=most)
        joined, written = source.rewritten(folder)
        open_written = partial(stream, places, folder, read)
        if written:
            in_view = _joined_places(written, places)
            open_written = partial(stream, in_view, staged / WRITTEN, partial(_read_parts, read))
        if joined:
            places, folder, read = _joined_places(joined, places), staged, partial(_read_parts, read)
        head = _HEAD if _HEAD in places else _EMBEDDING  # of tied weights
        with stream(places, folder, read, keep={head} if keep_head else ()) as opened:
            yield AtHand(folder=staged, stream=opened, open_written=open_written)


@dataclass(frozen=True, kw_only=True)
class _MergedRange(TensorRange):
    """Where the bytes of a tensor of a merged model are to be; ``tensor`` is its name."""

    tensor: str


def _merged_outline(
    release: Release, base: Release, scratch: Path, folder: Path, context: Context
) -> tuple[dict[str, TensorRange], ReadRange]:
    """Make the folder of an adapter that is merged with its base, with holes for the weights.

    Return what the holes are for, and what reads the bytes for one. The adapter itself is fetched whole.
    """
    own, there = scratch / "adapter", scratch / "base"
    for made in (own, there):
        made.mkdir()
    hub = context.hub
    with context.display.task(f"Reading the headers of {base.label}, and {release.label}") as task:
        places = hub.outline(base, there, task)
        hub.download(release, own, task)
    merging = merged.begin(release, there, own, folder)

    def read_base(name: str, take: Callable[[bytes], None]) -> None:
        hub.read_range(base, places[name], take)

    def read(place: TensorRange, take: Callable[[bytes], None]) -> None:
        assert isinstance(place, _MergedRange)  # noqa: S101 - all places of such a stream are
        merging.read(place.tensor, read_base, take)

    found: dict[str, TensorRange] = {}
    for new in merging.files:
        file = SourceFile(path=new.name, size=new.size, digest=_NO_DIGEST)
        for name, (begin, end) in new.places.items():
            found[name] = _MergedRange(file=file, begin=begin, end=end, tensor=name)
    return found, read


@dataclass(frozen=True, kw_only=True)
class _JoinedRange(TensorRange):
    """Where the bytes of a joined tensor are to be, and those that they are, one after the other."""

    parts: tuple[TensorRange, ...]


def _joined_places(files: Iterable[JoinedFile], places: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    """Return where tensors are to be in the files of a view that is to stream, and what they are joined of."""
    found: dict[str, TensorRange] = {}
    for joined in files:
        file = SourceFile(path=joined.name, size=joined.size, digest=_NO_DIGEST)
        for name, (begin, end) in joined.places.items():
            parts = tuple(places[part] for part in joined.parts[name])
            found[name] = _JoinedRange(file=file, begin=begin, end=end, parts=parts)
    return found


def _read_parts(read: ReadRange, place: TensorRange, take: Callable[[bytes], None]) -> None:
    assert isinstance(place, _JoinedRange)  # noqa: S101 - all places of such a stream are
    for part in place.parts:
        read(part, take)


def can_stream(release: Release, workspace: Workspace) -> bool:
    """Say whether a release can stream here: it is on a Hub, not here yet, and files in this folder can have holes."""
    if release.folder or workspace.has(workspace.source(release)) or workspace.has(workspace.staged(release)):
        return False
    workspace.root.mkdir(parents=True, exist_ok=True)
    return sparse_files.can_punch(workspace.root)


def fetch(release: Release, context: Context) -> Path:
    """Return the staged folder of a release, downloading and checking it first if that is not done yet.

    Raises what the checks of ``bot.source`` raise, ChatTemplateError for a template that takes too much, and
    DiskTooSmallError before a download that does not fit.
    """
    workspace, display = context.workspace, context.display
    staged = workspace.staged(release)
    if workspace.has(staged):
        return staged
    with workspace.only_one(_lock(release, workspace), display):
        if workspace.has(staged):
            return staged
        folder = _whole(release, context)
        source.check(folder)
        if not release.layout and source.rewritten(folder)[0]:  # under a prefix, which nobody knew before
            workspace.need_disk(release.weight_bytes, f"Renaming the tensors of {release.label}")
        with workspace.scratch() as scratch:
            _stage(release, folder, scratch / "staged", display)
            staged.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "staged").rename(staged)
    return staged


def _whole(release: Release, context: Context) -> Path:
    """Return the folder that a release is in, whole: of an adapter, that of the merged model."""
    if release.base is not None:
        return _merged(release, release.base, context)
    return _local(release) if release.folder else _download(release, context)


def _merged(release: Release, base: Release, context: Context) -> Path:
    """Return the folder of an adapter that is merged with its base, after fetching both and merging them."""
    workspace, hub = context.workspace, context.hub
    folder = workspace.source(release)
    if workspace.has(folder):
        return folder
    hub.shape(release)  # an adapter that does not fit its base is refused before that is downloaded
    with workspace.scratch() as scratch:
        if release.folder:
            own = _local(release)
        else:
            own = scratch / "adapter"
            own.mkdir()
            with context.display.task(f"Downloading {release.label}") as task:
                hub.download(release, own, task)
        there = _whole(base, context)
        source.check(there)
        title = f"Merging {release.label} into {base.label}"
        workspace.need_disk(base.weight_bytes, title)
        made = scratch / "merged"
        made.mkdir()
        with disk.disk_errors(title, made, needed=base.weight_bytes), context.display.task(title) as task:
            merging = merged.begin(release, there, own, made)
            done, total = 0, sum(file.size for file in merging.files)

            def report(count: int) -> None:
                nonlocal done
                done += count
                task.update("merging", done, total, "bytes")

            merged.fill(merging, there, made, report)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
    return folder


def _stage(release: Release, folder: Path, out: Path, display: Display, *, holes: bool = False) -> None:
    """Make the view that toolchains read, and say what a person should know of it."""
    for note in (*release.notes, *source.stage(folder, out, holes=holes)):
        display.say(f"{release.label}: {note}")
    check_limits(out)  # it is rendered in toolchains too, hours later


def _local(release: Release) -> Path:
    assert release.folder is not None  # noqa: S101 - the caller looked
    folder = Path(release.folder)
    known = release.base  # resolved when it was planned
    again = source.local_release(folder, base=None if known is None else lambda _: known)
    if again.content_digest != release.content_digest:
        raise ChangedSourceError(
            f"the files in {folder} have changed since they were planned",
            hint="Plan again, or let `phi-bot run` do all steps.",
        )
    return folder


def missing_bytes(release: Release, workspace: Workspace) -> int:
    """Return how many bytes a fetch would take of the disk: what it downloads, and what the view of it copies.

    The bytes that a killed download left are not counted: it goes on from there.
    """
    if workspace.has(workspace.staged(release)):
        return 0
    copied = release.view_bytes
    if workspace.has(workspace.source(release)):
        return copied
    if release.base is not None:
        own = 0 if release.folder else sum(f.size for f in release.files)
        return copied + own + missing_source_bytes(release.base, workspace)
    return copied + missing_source_bytes(release, workspace)


def missing_source_bytes(release: Release, workspace: Workspace) -> int:
    """Return how many bytes the files of a release would take of the disk that are not here yet."""
    if release.folder or workspace.has(workspace.source(release)):
        return 0
    folder = workspace.downloading(release)
    return sum(f.size - arrived(folder, f) for f in release.files if source.is_wanted(f.path))


def forget_download(release: Release, context: Context) -> bool:
    """Remove what a killed download left: it takes the room of a release that is to stream. Say whether there was any.

    One that another process is at is waited for.
    """
    folder = context.workspace.downloading(release)
    if not folder.exists():
        return False
    with context.workspace.only_one(_lock(release, context.workspace), context.display):
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _lock(release: Release, workspace: Workspace) -> str:
    return f"source-{workspace.staged(release).name}"


def _download(release: Release, context: Context) -> Path:
    workspace, hub = context.workspace, context.hub
    folder = workspace.source(release)
    if workspace.has(folder):
        return folder
    source.check_sizes(((f.path, f.size) for f in release.files if source.is_wanted(f.path)), where=release.label)
    hub.shape(release)  # weights that are not the model's are refused before hours of downloading them
    workspace.need_disk(missing_bytes(release, workspace), f"Downloading {release.label}")
    partial = workspace.downloading(release)  # not in scratch: a killed download goes on from here
    if not workspace.has(partial):
        partial.mkdir(parents=True, exist_ok=True)
    title = f"Downloading {release.label} ({size(release.weight_bytes)} of weights)"
    with (
        disk.disk_errors(title, partial, needed=missing_bytes(release, workspace)),
        context.display.task(title) as task,
    ):
        hub.download(release, partial, task)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
