"""A whole run to break: a release on a Hub, artifacts of it that are built and verified, and a proxy between."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from bot import catalogue
from bot.building.release_at_hand import fetch
from bot.config import Config
from bot.context import Context
from bot.errors import PhiBotError
from bot.hub import client, session
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Report
from bot.steps.run import run
from bot.workspace import Workspace
from tests.hub.faulty import Proxy, proxy

MODEL = "microsoft/Phi-3.5-sample-instruct"
VARIANTS = ("gguf/q8_0", "mlx/4bit")
REPOS = ("Phi-3.5-sample-instruct-GGUF", "Phi-3.5-sample-instruct-mlx-4bit")
STATE = "phi-bot-state"

_POLLING = 0.05  # seconds between two looks at a process that is waited for: no pause
_SHORT_SECONDS = 0.5  # of silence, where a time-out is what is tried: an answer of this Hub takes some milliseconds


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request of a run. ``path`` has placeholders for what differs from run to run; ``number`` counts from 0."""

    method: str
    path: str
    number: int

    def pattern(self, namespace: str) -> str:
        """Return a regular expression for its path in a run that publishes in a namespace."""
        text = re.escape(self.path).replace("NAMESPACE", re.escape(namespace)).replace("HEX", "[0-9a-f]{40,64}")
        return rf"^{text}(?:[?&].*)?$".replace(r"\?name=", r"\?(?:.*&)?name=")


@dataclass(kw_only=True)
class Bench:
    """A Hub with a release on it, and a working folder in which every artifact of it is kept."""

    hub: RunningHub
    proxy: Proxy
    work: Path
    on_pause: Callable[[], None] = field(default=lambda: None)

    def run(self, namespace: str) -> Report | PhiBotError:
        """Make a whole run of a new process on a machine that has the artifacts and not the source.

        The source is fetched all the same, first, as it would be for a build. Pauses are left out; ``on_pause`` is
        called in their place.
        """
        for name in ("sources", "staged"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        session.forget_connections()
        settings = Config()
        settings = replace(
            settings,
            build=replace(settings.build, threads=2),
            publish=replace(settings.publish, namespace=namespace),
        )
        context = Context(
            config=settings,
            workspace=Workspace(root=self.work),
            hub=client.connect(self.proxy.url, self.hub.token),
            display=Silent(),
        )
        with mock.patch.object(time, "sleep", self._sleep):
            try:
                fetch(context.hub.release(MODEL), context)
                return run((), catalogue.select(list(VARIANTS)), named=frozenset(VARIANTS), context=context)[1]
            except PhiBotError as error:
                return error

    def _sleep(self, seconds: float, *, really: Callable[[float], None] = time.sleep) -> None:
        if seconds <= _POLLING:
            really(seconds)
        else:
            self.on_pause()

    def calls(self, namespace: str) -> list[Call]:
        """Make a run in which nothing goes wrong, and return its calls."""
        self.proxy.seen.clear()
        report = self.run(namespace)
        assert isinstance(report, Report), report
        assert not report.failures
        counts: dict[tuple[str, str], int] = {}
        found = []
        for method, path, _ in self.proxy.seen:
            key = method, _normal(path, namespace)
            counts[key] = counts.get(key, -1) + 1
            found.append(Call(method=key[0], path=key[1], number=counts[key]))
        return found

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Have requests time out soon."""
        with (
            mock.patch.object(session, "_SILENCE_SECONDS", _SHORT_SECONDS),
            mock.patch("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", _SHORT_SECONDS),
        ):
            yield


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Open what ``make_bench`` left in a folder, or a copy of it."""
    with serve(folder / "hub") as hub, proxy(hub.url) as between:
        yield Bench(hub=hub, proxy=between, work=folder / "work")


def make_bench(folder: Path, sample: Path) -> None:
    """Release the sample checkpoint on a Hub, and build and verify every variant of it once (a minute or two)."""
    with open_bench(folder) as bench:
        direct = client.connect(bench.hub.url, bench.hub.token)
        files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
        with Silent().task("release") as task:
            direct.commit(MODEL, files=files, parent=None, message="Release", task=task)
        bench.calls("first")


def _normal(path: str, namespace: str) -> str:
    path, _, query = path.partition("?")
    name = re.search(r"(?:^|&)(name=[^&]*)", query) if path.startswith("/_lfs/download") else None
    path = re.sub(rf"(?<![\w-]){namespace}(?![\w-])", "NAMESPACE", path)
    path = re.sub(r"(?<![0-9a-f])[0-9a-f]{40,64}(?![0-9a-f])", "HEX", path)
    return f"{path}?{name.group(1)}" if name else path
