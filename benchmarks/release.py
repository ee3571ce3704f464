"""A whole release at a real size, in one command: ``make bench-release``, or with names of CASES, of those.

An embedded Hub has a model of random weights in the shape of a published one. ``phi-bot run`` watches, plans, builds,
verifies and publishes the default set from there: with all that this machine has, with the memory and the disk of a
hosted runner, and killed again and again. Takes root, on Linux. Writes results/release.json and the table of README.md;
a case that is measured again takes the place of what was said of it.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from benchmarks import tables
from benchmarks.checkpoints import SHAPES, make
from benchmarks.limited import limited_memory
from benchmarks.real.watched import Taken, run
from benchmarks.small_disk import GB, disk, release
from bot.building.sample import make_sample
from bot.localhub import RunningHub, serve
from bot.progress import Silent
from bot.records.artifacts import Record, Report

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "release.json"
PAGE = HERE / "README.md"
KILLS = 5
_HEAD = (
    "Shape",
    "Case",
    "Minutes",
    "CPU minutes",
    "Anonymous memory, GB",
    "Disk, GB",
    "Read from the Hub",
    "Published files",
    "Failed",
)


@dataclass(frozen=True, kw_only=True)
class Case(Record):
    """What a release is run with. Limits are in bytes; without one there is what the machine has."""

    text: str
    memory: int | None = None
    disk: int = 60 * GB
    kills: int = 0


CASES = {
    "free": Case(text="as the machine is"),
    "runner": Case(text="7 GB of memory, 14 GB of disk", memory=7 * GB, disk=14 * GB),
    "killed": Case(text=f"killed {KILLS} times", kills=KILLS),
}


@dataclass(frozen=True, kw_only=True)
class Kill(Record):
    """A run that was killed after so many seconds, and how many files of weights were on the Hub by then."""

    seconds: float
    published: int


@dataclass(frozen=True, kw_only=True)
class Measured(Record):
    """What a release took. ``taken`` is of the last run, if some were killed before.

    ``read`` are the bytes of files that the Hub sent in all runs, ``weights`` those of the model's weights; ``files``
    are the SHA-256 of what was published, by repo and path.
    """

    shape: str
    layers: int
    case: str
    machine: str
    taken: Taken
    read: int
    weights: int
    kills: tuple[Kill, ...]
    files: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Results(Record):
    """All that was measured."""

    releases: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """A Hub that has a model, and a folder for what is done with it."""

    hub: RunningHub
    repo_id: str
    folder: Path
    weights: int
    layers: int

    @property
    def environment(self) -> dict[str, str]:
        own = {"HF_ENDPOINT": self.hub.url, "HF_TOKEN": self.hub.token, "HF_HUB_DISABLE_XET": "1"}
        return os.environ | own | {"HF_HOME": str(self.folder / "hf-home"), "PYTHONPATH": str(HERE.parent)}

    def published(self, namespace: str) -> dict[str, str]:
        """Return the SHA-256 of each file of weights that a namespace has, by repo and path."""
        api = HfApi(endpoint=self.hub.url, token=self.hub.token)
        return {
            f"{repo.id}/{entry.path}": entry.lfs.sha256
            for repo in api.list_models(author=namespace)
            for entry in api.list_repo_tree(repo.id, recursive=True)
            if isinstance(entry, RepoFile) and entry.lfs and not entry.path.endswith(".png")  # plots tell of times, too
        }


def main() -> None:
    """Release a model once, and take the cases that are named, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="all of them by default")
    parser.add_argument("--shape", choices=SHAPES, default="phi-3.5-mini")
    parser.add_argument("--layers", type=int, help="fewer than the model has: nothing is written")
    parser.add_argument("--kill-every", type=float, help="seconds; by default, a sixth of what `free` takes")
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench" / "release")
    options = parser.parse_args()
    known = Results.from_json(json.loads(RESULTS.read_text())).releases if RESULTS.exists() else ()
    found = {(m.shape, m.case): m for m in known}
    with _bench(options.shape, options.layers or SHAPES[options.shape].layers, options.work.absolute()) as bench:
        for name in options.cases or CASES:
            undisturbed = found.get((options.shape, "free"))
            every = options.kill_every or (undisturbed.taken.seconds / (KILLS + 1) if undisturbed else None)
            if CASES[name].kills and every is None:
                raise SystemExit("how long a run takes is not known: measure `free` first, or give --kill-every")
            measured = measure(bench, options.shape, name, every or 0)
            print(json.dumps(measured.to_json() | {"files": len(measured.files)}), flush=True)
            found[options.shape, name] = measured
            if options.layers is None:
                results = Results(releases=tuple(found[key] for key in sorted(found, key=_order)))
                RESULTS.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
                write_page(results)
    shutil.rmtree(options.work)


@contextmanager
def _bench(name: str, layers: int, work: Path) -> Iterator[_Bench]:
    """Make a model and move it to a Hub."""
    shape, repo_id = SHAPES[name], f"microsoft/{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    make_sample(work / "sample", Silent(), family=shape.family)
    model = make(shape, work / "sample", work / "model", layers=layers)
    weights = sum(p.stat().st_size for p in model.glob("*.safetensors"))
    with serve(work / "hub") as hub:
        release(hub, repo_id, model)
        yield _Bench(hub=hub, repo_id=repo_id, folder=work, weights=weights, layers=layers)


def measure(bench: _Bench, shape: str, name: str, kill_every: float) -> Measured:
    """Run a release to its end, killed as often as its case says; what is published stays on the Hub."""
    case, before = CASES[name], bench.hub.requests.sent()
    kills: list[Kill] = []
    with disk(bench.folder / name, case.disk) as mount, limited_memory(case.memory) as prefix:
        for _ in range(case.kills):
            taken = _run(bench, name, mount, prefix, kill_every)
            if taken.code == 0:
                said = f"the run ended by itself after {taken.seconds:.0f} seconds, after {len(kills)} kills"
                raise SystemExit(f"{said}: give a smaller --kill-every")
            kills.append(Kill(seconds=taken.seconds, published=len(bench.published(name))))
        taken = _run(bench, name, mount, prefix)
    shutil.rmtree(bench.folder / name)
    text = (bench.folder / f"{name}.log").read_text(encoding="utf-8")
    report = Report.from_json(json.loads(text)) if text else Report()
    return Measured(
        shape=shape,
        layers=bench.layers,
        case=name,
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        taken=taken,
        read=bench.hub.requests.sent() - before,
        weights=bench.weights,
        kills=tuple(kills),
        files=bench.published(name),
        failed={f.variant: f.message for f in report.failures},
    )


def _run(bench: _Bench, name: str, mount: Path, prefix: Sequence[str], kill_after: float | None = None) -> Taken:
    command = ["-m", "bot.cli", "run", bench.repo_id, "--namespace", name, "--work", str(mount / "work"), "--json"]
    rest = {} if kill_after is None else {"kill_after": kill_after}
    return run(
        [*prefix, sys.executable, *command],
        folder=mount,
        log=bench.folder / f"{name}.log",
        environment=bench.environment,
        **rest,
    )


def _order(key: tuple[str, str]) -> tuple[int, int]:
    return list(SHAPES).index(key[0]), list(CASES).index(key[1])


def write_page(results: Results) -> None:
    """Write the table of a page."""
    lines = [
        f"| {' | '.join(_HEAD)} |",
        f"|:---|:---|{'---:|' * (len(_HEAD) - 3)}:---|",
        *(_line(m, results.releases) for m in results.releases),
    ]
    tables.put(PAGE, "release", lines)


def _line(found: Measured, others: Sequence[Measured]) -> str:
    taken = found.taken
    first = next((m.files for m in others if m.shape == found.shape), found.files)
    same = "" if first is found.files else ", the same" if _digests(first) == _digests(found.files) else ", OTHER ONES"
    return (
        f"| {found.shape}, {found.layers} layers | {CASES[found.case].text} | {taken.seconds / 60:.0f} "
        f"| {taken.cpu_seconds / 60:.0f} | {taken.anonymous / 1e9:.1f} | {taken.disk / 1e9:.1f} "
        f"| {found.read / found.weights:.2f} times the weights | {len(found.files)}{same} "
        f"| {', '.join(found.failed)} |"
    )


def _digests(files: dict[str, str]) -> list[str]:
    return sorted(files.values())  # repos are of another namespace in each case


if __name__ == "__main__":
    main()
