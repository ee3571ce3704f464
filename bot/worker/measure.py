"""Verifying, as all formats share it: an artifact's own answers held against the source's and the reference's.

Runs inside every toolchain, so it imports only numpy beside the standard library.
"""

import json
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.records.artifacts import Json
from bot.records.evidence import Check, Generation, RunningCost
from bot.records.tasks import VerifyTask
from bot.worker import constants, distance, own_weights, parity, rotary, weights
from bot.worker.calibrated import read_solved
from bot.worker.cost import cost_of_rounding
from bot.worker.feed import Feed
from bot.worker.harness import Reporter, SourceProblem, error_line, peak_memory
from bot.worker.order import model_order
from bot.worker.own_weights import OwnWeightsCheck, TextLogits
from bot.worker.rounding import Arithmetic
from bot.worker.runtime import Runtime, remarks
from bot.worker.tensors import Tensors
from bot.worker.window_reading import WindowReading

_PREFILL, _DECODED = 128, 8  # tokens of the prompt that is timed, and the fewest of an answer that is


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

    def to_json(self) -> list[Json]:
        return [c.to_json() for c in self.done]


def verify(task_json: Json, report: Reporter, hooks: FormatHooks) -> Json:
    """Measure an artifact; return what Evidence holds beside the gate (see evidence.Evidence).

    Of the weights alone, return ``checks`` (none of a file that is not whole), ``peak_memory`` (bytes) and ``seconds``.
    """
    started = time.monotonic()
    task = VerifyTask.from_json(task_json)
    verification = _Verification(task, hooks, report)
    measured = verification.of_weights() if task.part == "weights" else verification.of_all()
    return measured | {"seconds": round(time.monotonic() - started, 3)}


class _Verification:
    """One artifact, held against the source and the reference of a task."""

    def __init__(self, task: VerifyTask, hooks: FormatHooks, report: Reporter) -> None:
        self._task, self._hooks, self._report = task, hooks, report
        self._reference = json.loads((Path(task.reference) / "reference.json").read_text(encoding="utf-8"))
        self._config: dict[str, Json] = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))
        self._feed = Feed(report) if task.streamed else None
        self._own: OwnWeightsCheck | None = None
        self._checks = _Checks()

    def of_weights(self) -> dict[str, Json]:
        """Compare the weights alone; a file that is not whole has no checks."""
        whole = self._is_whole()
        self._checks.done.clear()
        if whole:
            self._checks.run("weights", self._weights)
        return {"checks": self._checks.to_json(), "peak_memory": peak_memory()}

    def of_all(self) -> dict[str, Json]:
        """Make all checks, but of the weights where the task leaves them out."""
        measured: dict[str, Json] = {"runtime": "", "cost": None, "own_weights": None, "rounding": None}
        measured |= dict.fromkeys(("distances", "stretches", "generations", "read_differently"), ())
        # A damaged file may crash the runtime, and a file that does not load can be asked nothing.
        if self._is_whole():
            asked = self._runs(measured)
            turned: list[rotary.Rotary] = []
            is_turned = self._checks.run("rotary", lambda: self._rotary(turned))
            self._checks.run("constants", self._constants)
            if asked is not None and is_turned:
                self._own = OwnWeightsCheck(asked, self._config, turned[0], self._hooks.arithmetic(self._task))
            right = self._task.part != "all" or self._checks.run("weights", self._weights)
            if (own := self._own) is not None and right:
                self._checks.run("own weights", lambda: self._own_weights(own, measured))
        return measured | {"machine": machine(), "checks": self._checks.to_json()}

    def _is_whole(self) -> bool:
        return self._checks.run("integrity", lambda: (True, self._hooks.inspect(self._task)))

    # ---- the runtime -----------------------------------------------------------------------------------------

    def _runs(self, measured: dict[str, Json]) -> TextLogits | None:
        """Load the artifact and ask it all that it can be asked; return what to hold its own weights against.

        Afterwards it is no longer loaded: the weights are read once more, and would be held twice.
        """
        loaded: list[Runtime] = []
        if not self._checks.run("loading", lambda: self._load(loaded, measured)):
            return None
        runtime, reference, known = loaded[0], self._reference, self._task.read_differently
        answers: list[tuple[Generation, float]] = []
        positions: list[distance.Positions] = []
        asked: list[TextLogits] = []

        def answer() -> tuple[bool, str]:
            for prompt in reference["prompts"]:
                started = time.monotonic()
                answers.append((parity.generation(runtime, prompt), time.monotonic() - started))
            measured["cost"] |= {"peak_memory": peak_memory(), "decode_rate": _decode_rate(runtime, answers)}
            return parity.said_something(runtime, [generation for generation, _ in answers], reference)

        def read_windows() -> tuple[bool, str]:
            reading = WindowReading(runtime, self._task, reference, self._feed, self._report)
            asked.append(own_weights.ask(runtime, reference, self._config))  # while it is loaded as it is recommended
            positions.extend(reading.positions())
            read = f"{sum(len(p.at) for p in positions)} positions in {len(positions)} windows"
            return True, "; ".join([read, *remarks(runtime)])

        self._checks.run("tokenizer", lambda: parity.tokenizer(runtime, reference, known))
        self._checks.run("chat template", lambda: parity.chats(runtime, reference["chats"], known))
        self._checks.run("stop tokens", lambda: parity.stop_tokens(runtime, reference))
        self._checks.run("generation", answer)
        self._checks.run("predictions", read_windows)
        rounding = cost_of_rounding(positions, reference, self._task.variant.precision)
        measured["rounding"] = None if rounding is None else rounding.to_json()
        measured["read_differently"] = parity.known_differences(runtime, reference, known)
        measured["generations"] = [generation.to_json() for generation, _ in answers]
        measured["distances"] = [d.to_json() for d in distance.distances(positions)]
        measured["stretches"] = [s.to_json() for s in distance.stretches(positions)]
        return asked[0] if asked else None

    def _load(self, loaded: list[Runtime], measured: dict[str, Json]) -> tuple[bool, str]:
        self._report.progress("loading", 0, 1, "files")
        before = time.monotonic()
        runtime = self._hooks.load(self._task)
        seconds = time.monotonic() - before
        loaded.append(runtime)
        self._report.progress("loading", 1, 1, "files")
        measured["runtime"] = runtime.name
        prompt = self._reference["windows"][0]["ids"][:_PREFILL]
        measured["cost"] = RunningCost(
            load_seconds=round(seconds, 3),
            prefill_rate=round(_prefill_rate(runtime, prompt), 1),
            peak_memory=peak_memory(),
            decode_rate=None,
            threads=self._task.threads,
        ).to_json()
        return True, runtime.name

    # ---- the file --------------------------------------------------------------------------------------------

    def _rotary(self, turned: list[rotary.Rotary]) -> tuple[bool, str]:
        turned.append(self._hooks.rotary(self._task))
        return True, rotary.compare(turned[0], rotary.of_config(self._config))

    def _constants(self) -> tuple[bool, str]:
        return True, constants.compare(self._hooks.constants(self._task), constants.of_config(self._config))

    def _own_weights(self, own: OwnWeightsCheck, measured: dict[str, Json]) -> tuple[bool, str]:
        """Hold the runtime against the file's own weights, which are read if they were not compared just now."""
        source = Tensors(Path(self._task.source))
        if self._task.part != "all":
            own.take_all(self._hooks.stored(self._task), source)
        found = own.found(source, threads=self._task.threads)
        measured["own_weights"] = found.to_json()
        return own_weights.judged(found)

    def _weights(self) -> tuple[bool, str]:
        """Compare the weights; what the runtime is held against gets them, too."""
        source = Tensors(Path(self._task.source), self._feed)
        source.order(sorted(source.names(), key=model_order))
        total = len(source.names())

        def counted() -> Iterator[weights.ArtifactWeight]:
            done = 0
            for stored in self._hooks.stored(self._task):
                yield stored
                done += len(stored.sources)
                self._report.progress("comparing weights", min(done, total), total, "tensors")

        tied = self._reference["head"]["weight"] != "lm_head.weight"
        take = self._own.take if self._own else None
        found = weights.compare(counted(), source, tied=tied, take=take, solved=self._solved())
        most = f"{100 * found.largest_error:.2g} % in {found.largest_error_in}" if found.largest_error_in else "0"
        return True, f"{found.tensors} tensors are the source's; the largest relative error is {most}"

    def _solved(self) -> dict[str, str]:
        """Return what a calibrated build rounded each matrix to. Raises ValueError where that is not known."""
        if not self._task.variant.is_calibrated:
            return {}
        if not self._task.solved:
            raise ValueError("what its matrices were rounded to is not known: build it again")
        return read_solved(Path(self._task.solved))


def machine() -> str:
    """Name the machine that measured: system, architecture and, on Linux, the processor."""
    name = f"{platform.system()} {platform.machine()}"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{name}, {line.split(':', 1)[1].strip()}"
    return name


def _prefill_rate(runtime: Runtime, prompt: Sequence[int]) -> float:
    """Time a prompt; return its tokens per second, the better of two times: the first one warms up."""
    return len(prompt) / min(_seconds(runtime, prompt), _seconds(runtime, prompt))


def _decode_rate(runtime: Runtime, answers: Sequence[tuple[Generation, float]]) -> float | None:
    """Return the tokens per second of the longest of some answers, each with its seconds; None if that is too short."""
    longest, seconds = max(answers, key=lambda answer: len(answer[0].ids))
    steps = len(longest.ids) - (not longest.stopped)  # behind the prompt's own
    decoding = seconds - _seconds(runtime, longest.prompt_ids)
    return round(steps / decoding, 1) if steps >= _DECODED and decoding > 0 else None


def _seconds(runtime: Runtime, prompt: Sequence[int]) -> float:
    started = time.monotonic()
    runtime.generate(prompt, 1)
    return time.monotonic() - started
