"""Verifying, as all formats share it: an artifact's own answers held against the source's and the reference's.

Runs inside every toolchain, so it imports only numpy beside the standard library.
"""

import json
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bot.records.artifacts import Json
from bot.records.evidence import Check, Generation, RunningCost
from bot.records.tasks import VerifyTask
from bot.worker import constants, distance, own_weights, parity, rotary, weights
from bot.worker.cost import cost_of_rounding
from bot.worker.distance import Positions
from bot.worker.feed import Feed
from bot.worker.harness import Reporter, SourceProblem, error_line, peak_memory
from bot.worker.head import Head
from bot.worker.order import model_order
from bot.worker.own_weights import OwnWeightsCheck, TextLogits
from bot.worker.rounding import Arithmetic
from bot.worker.runtime import Logits, Runtime
from bot.worker.tensors import Tensors

Array = Any  # numpy is not installed where mypy runs

_PREFILL, _DECODE = 128, 32  # tokens that running is timed with


@dataclass(frozen=True, kw_only=True)
class FormatHooks:
    """The parts of verifying that a format provides. Each gets the task; what it raises becomes a failed check.

    ``inspect`` says in a few words what the artifact's files are. It raises for a file that is missing, damaged or too
    many; whether they are the files that were built is checked elsewhere. ``stored`` yields the weights, dequantized,
    one tensor at a time, in the order of order.model_order; ``rotary`` reads how queries and keys are turned, and
    ``constants`` the other numbers that the runtime computes with; ``arithmetic`` says what it rounds beside the states
    that it multiplies with matrices.
    """

    inspect: Callable[[VerifyTask], str]
    load: Callable[[VerifyTask], Runtime]
    stored: Callable[[VerifyTask], Iterator[weights.ArtifactWeight]]
    rotary: Callable[[VerifyTask], rotary.Rotary]
    constants: Callable[[VerifyTask], Iterable[constants.Constant]]
    arithmetic: Callable[[VerifyTask], Arithmetic]


@dataclass(kw_only=True)
class _Checks:
    """Runs checks by name; one that raises has failed, and says why."""

    done: list[Check] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], tuple[bool, str]]) -> bool:
        try:
            passed, detail = check()
        except SourceProblem:
            raise  # the artifact is not at fault
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises
            traceback.print_exc()
            passed, detail = False, error_line(error)
        self.done.append(Check(name=name, passed=passed, detail=detail))
        return passed


def verify(task_json: Json, report: Reporter, hooks: FormatHooks) -> Json:
    """Measure an artifact; return what Evidence holds beside the gate (see evidence.Evidence).

    Of the weights alone, return ``checks`` (none of a file that is not whole), ``peak_memory`` (bytes) and ``seconds``.
    """
    started = time.monotonic()
    task = VerifyTask.from_json(task_json)
    reference = json.loads((Path(task.reference) / "reference.json").read_text(encoding="utf-8"))
    feed = Feed(report) if task.streamed else None
    checks = _Checks()
    measured: dict[str, Json] = {"runtime": "", "cost": None, "own_weights": None, "rounding": None}
    measured |= dict.fromkeys(("distances", "stretches", "generations", "read_differently"), ())
    loaded: list[Runtime] = []

    def load() -> tuple[bool, str]:
        report.progress("loading", 0, 1, "files")
        before = time.monotonic()
        loaded.append(hooks.load(task))
        seconds = time.monotonic() - before
        report.progress("loading", 1, 1, "files")
        measured["runtime"] = loaded[0].name
        measured["cost"] = _cost(loaded[0], reference, seconds, task.threads).to_json()
        return True, loaded[0].name

    # A damaged file may crash the runtime, and a file that does not load can be asked nothing.
    whole = checks.run("integrity", lambda: (True, hooks.inspect(task)))
    if task.part == "weights":
        found = _Checks()
        if whole:
            found.run("weights", lambda: _weights(hooks, task, reference, feed, report))
        return {
            "checks": [c.to_json() for c in found.done],
            "peak_memory": peak_memory(),
            "seconds": round(time.monotonic() - started, 3),
        }
    asked: TextLogits | None = None
    if whole and checks.run("loading", load):
        runtime = loaded.pop()
        predicted, asked = _predictions(runtime, task, reference, checks, feed, report)
        measured |= predicted
        del runtime  # the weights are read once more: do not hold them twice
    turned = whole and checks.run("rotary", lambda: _rotary(hooks, task))
    if whole:
        checks.run("constants", lambda: _constants(hooks, task))
    right, own = True, None
    if asked is not None and turned:
        own = OwnWeightsCheck(asked, _config(task), hooks.rotary(task), hooks.arithmetic(task))
    if whole and task.part == "all":
        right = checks.run("weights", lambda: _weights(hooks, task, reference, feed, report, own))
    if own is not None and right:
        checks.run("own weights", lambda: _own_weights(own, hooks, task, measured))
    return measured | {
        "machine": machine(),
        "checks": [c.to_json() for c in checks.done],
        "seconds": round(time.monotonic() - started, 3),
    }


def _predictions(
    runtime: Runtime, task: VerifyTask, reference: Json, checks: _Checks, feed: Feed | None, report: Reporter
) -> tuple[dict[str, Json], TextLogits | None]:
    """Ask a runtime all that it can be asked; return what Evidence holds of that, and what to hold weights against."""
    generations: list[Generation] = []
    positions: list[Positions] = []
    asked: list[TextLogits] = []

    def answer() -> tuple[bool, str]:
        generations.extend(parity.generation(runtime, prompt) for prompt in reference["prompts"])
        return parity.said_something(runtime, generations, reference)

    def read_windows() -> tuple[bool, str]:
        positions.extend(_windows(runtime, task, reference, feed, report))
        asked.append(own_weights.ask(runtime, reference, _config(task)))
        return True, f"{sum(len(p.at) for p in positions)} positions in {len(positions)} windows"

    checks.run("tokenizer", lambda: parity.tokenizer(runtime, reference, task.read_differently))
    checks.run("chat template", lambda: parity.chats(runtime, reference["chats"], task.read_differently))
    checks.run("stop tokens", lambda: parity.stop_tokens(runtime, reference))
    checks.run("generation", answer)
    checks.run("predictions", read_windows)
    rounding = cost_of_rounding(positions, reference, task.variant.precision)
    found = {
        "rounding": None if rounding is None else rounding.to_json(),
        "read_differently": parity.known_differences(runtime, reference, task.read_differently),
        "generations": [g.to_json() for g in generations],
        "distances": [d.to_json() for d in distance.distances(positions)],
        "stretches": [s.to_json() for s in distance.stretches(positions)],
    }
    return found, asked[0] if asked else None


def machine() -> str:
    """Name the machine that measured: system, architecture and, on Linux, the processor."""
    name = f"{platform.system()} {platform.machine()}"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{name}, {line.split(':', 1)[1].strip()}"
    return name


def _cost(runtime: Runtime, reference: Json, load_seconds: float, threads: int) -> RunningCost:
    """Time a prompt alone, the better of two times, and with its continuation."""
    prompt = reference["windows"][0]["ids"][:_PREFILL]

    def timed(new_tokens: int) -> tuple[float, int]:
        started = time.monotonic()
        new = len(runtime.generate(prompt, new_tokens))
        return time.monotonic() - started, new

    prefill = min(timed(1)[0], timed(1)[0])  # the first one warms up
    both, new = timed(1 + _DECODE)
    decode = both - prefill
    return RunningCost(
        load_seconds=round(load_seconds, 3),
        peak_memory=peak_memory(),
        prefill_rate=round(len(prompt) / prefill, 1),
        decode_rate=round((new - 1) / decode, 1) if new > 1 and decode > 0 else None,
        threads=threads,
    )


def _windows(
    runtime: Runtime, task: VerifyTask, reference: Json, feed: Feed | None, report: Reporter
) -> Iterator[Positions]:
    head = Head(Path(task.source), reference["head"], feed)
    work = _work(runtime, reference["windows"])
    total, done = sum(len(settings) for _, settings in work), 0
    for window, settings in work:
        hidden = np.load(Path(task.reference) / window["file"], mmap_mode="r", allow_pickle=False)
        expected: Iterable[Array] = head.parts(hidden)
        if len(settings) > 1:
            expected = list(expected)  # up to 410 MB: computing them takes longer than comparing
        at = np.asarray(window["scored"])
        text = [*window["ids"], window["following"]]
        for setting, run in settings.items():
            report.progress("measuring", done, total, "windows")
            got = run(window["ids"], window["scored"])
            kl, same, excess = distance.compare(expected, got, [text[i + 1] for i in at], threads=task.threads)
            yield Positions(
                window=window["file"],
                side=window["side"],
                kind=window["kind"],
                setting=setting,
                at=at,
                kl=kl,
                same=same,
                excess=excess,
            )
            done += 1
    report.progress("measuring", total, total, "windows")


def _work(runtime: Runtime, windows: list[Json]) -> list[tuple[Json, dict[str, Logits]]]:
    """Return each window, and the settings it is run under: the recommended one, whose name is "", and others.

    Those are about the short side of a LongRoPE switch, and one window of each kind of text shows what they do.
    """
    others = runtime.other_settings if any(w["side"] == "long" for w in windows) else {}
    shown: set[str] = set()
    work = []
    for window in windows:
        shows = window["side"] == "short" and window["kind"] not in shown
        if shows:
            shown.add(window["kind"])
        work.append((window, {"": runtime.logits, **(others if shows else {})}))
    return work


def _config(task: VerifyTask) -> dict[str, Json]:
    config: dict[str, Json] = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))
    return config


def _rotary(hooks: FormatHooks, task: VerifyTask) -> tuple[bool, str]:
    return True, rotary.compare(hooks.rotary(task), rotary.of_config(_config(task)))


def _constants(hooks: FormatHooks, task: VerifyTask) -> tuple[bool, str]:
    return True, constants.compare(hooks.constants(task), constants.of_config(_config(task)))


def _own_weights(
    own: OwnWeightsCheck, hooks: FormatHooks, task: VerifyTask, measured: dict[str, Json]
) -> tuple[bool, str]:
    """Hold the runtime against the file's own weights, which are read if they were not compared just now."""
    source = Tensors(Path(task.source))
    if task.part != "all":
        own.take_all(hooks.stored(task), source)
    found = own.found(source, threads=task.threads)
    measured["own_weights"] = found.to_json()
    return own_weights.judged(found)


def _weights(
    hooks: FormatHooks,
    task: VerifyTask,
    reference: Json,
    feed: Feed | None,
    report: Reporter,
    own: OwnWeightsCheck | None = None,
) -> tuple[bool, str]:
    """Compare the weights; one that the runtime is held against gets them, too."""
    source = Tensors(Path(task.source), feed)
    source.order(sorted(source.names(), key=model_order))
    total = len(source.names())

    def counted() -> Iterator[weights.ArtifactWeight]:
        done = 0
        for stored in hooks.stored(task):
            yield stored
            done += len(stored.sources)
            report.progress("comparing weights", min(done, total), total, "tensors")

    tied = reference["head"]["weight"] != "lm_head.weight"
    found = weights.compare(counted(), source, tied=tied, take=own.take if own else None)
    most = f"{100 * found.largest_error:.2g} % in {found.largest_error_in}" if found.largest_error_in else "0"
    return True, f"{found.tensors} tensors are the source's; the largest relative error is {most}"
