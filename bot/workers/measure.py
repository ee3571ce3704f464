"""Verifying, as all formats share it: an artifact's own answers held against the source's and the reference's.

Runs inside every toolchain, so it imports only numpy beside the standard library.
"""

import json
import platform
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bot.evidence import Check, Generation, RunningCost
from bot.records import Json
from bot.tasks import VerifyTask
from bot.workers import distance, rotary, weights
from bot.workers.distance import Positions
from bot.workers.harness import Reporter, SourceProblem, peak_memory
from bot.workers.head import Head
from bot.workers.tensors import Tensors

Array = Any  # numpy is not installed where mypy runs
Logits = Callable[[Sequence[int], int], Array]

_PREFILL, _DECODE = 128, 32  # tokens that running is timed with
_ENDING = 16  # tokens within which an answer has to end, where the original would end it at once


class Runtime(Protocol):
    """An artifact loaded in its own runtime."""

    name: str  #: package and version: "llama-cpp-python 0.3.36"

    #: Other settings of the runtime that people use, by what a card calls them: ``logits`` under each of them. They are
    #: measured on the short side of a LongRoPE switch; no gate applies.
    other_settings: Mapping[str, Logits]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens in full."""
        ...

    def render(self, messages: list[Json], *, tools: list[Json] | None, add_generation_prompt: bool) -> str:
        """Return a conversation as the chat template inside the artifact writes it, rendered as the runtime does."""
        ...

    def stop_ids(self) -> set[int]:
        """Return the ids at which the runtime ends generating by itself."""
        ...

    def logits(self, ids: Sequence[int], first: int) -> Array:
        """Run the ids from an empty context; return float32 logits of the positions from ``first`` on.

        Their shape is (len(ids) - first, vocabulary or more); they hold until the next call.
        """
        ...

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily with the runtime's usual loop; the stop token that ended it is left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a format brings to verifying. Each gets the task; what it raises becomes a failed check.

    ``inspect`` says in a few words what the artifact's files are. It raises for a file that is missing, damaged or too
    many; whether they are the files that were built is checked elsewhere. ``stored`` yields the weights, dequantized,
    one tensor at a time; ``rotary`` reads how queries and keys are turned.
    """

    inspect: Callable[[VerifyTask], str]
    load: Callable[[VerifyTask], Runtime]
    stored: Callable[[VerifyTask], Iterator[weights.Stored]]
    rotary: Callable[[VerifyTask], rotary.Rotary]


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
            passed, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.done.append(Check(name=name, passed=passed, detail=detail))
        return passed


def verify(task_json: Json, report: Reporter, means: Means) -> Json:
    """Measure an artifact; return what Evidence holds beside the gate (see evidence.Evidence)."""
    started = time.monotonic()
    task = VerifyTask.from_json(task_json)
    reference = json.loads((Path(task.reference) / "reference.json").read_text(encoding="utf-8"))
    checks = _Checks()
    measured: dict[str, Json] = {"runtime": "", "cost": None, "distances": [], "stretches": [], "generations": []}
    measured["read_differently"] = []
    loaded: list[Runtime] = []

    def load() -> tuple[bool, str]:
        report.progress("loading", 0, 1, "files")
        before = time.monotonic()
        loaded.append(means.load(task))
        seconds = time.monotonic() - before
        report.progress("loading", 1, 1, "files")
        measured["runtime"] = loaded[0].name
        measured["cost"] = _cost(loaded[0], reference, seconds, task.threads).to_json()
        return True, loaded[0].name

    # A damaged file may crash the runtime, and a file that does not load can be asked nothing.
    if checks.run("integrity", lambda: (True, means.inspect(task))) and checks.run("loading", load):
        runtime = loaded.pop()
        measured |= _predictions(runtime, task, reference, checks, report)
        del runtime  # the weights are read once more: do not hold them twice
    if all(c.name != "integrity" or c.passed for c in checks.done):
        checks.run("weights", lambda: _weights(means, task, reference, report))
        checks.run("rotary", lambda: _rotary(means, task))
    return measured | {
        "machine": machine(),
        "checks": [c.to_json() for c in checks.done],
        "seconds": round(time.monotonic() - started, 3),
    }


def _predictions(
    runtime: Runtime, task: VerifyTask, reference: Json, checks: _Checks, report: Reporter
) -> dict[str, Json]:
    generations: list[Generation] = []
    positions: list[Positions] = []

    def answer() -> tuple[bool, str]:
        generations.extend(_generation(runtime, prompt) for prompt in reference["prompts"])
        return _said_something(generations)

    def read_windows() -> tuple[bool, str]:
        positions.extend(_windows(runtime, task, reference, report))
        return True, f"{sum(len(p.at) for p in positions)} positions in {len(positions)} windows"

    checks.run("tokenizer", lambda: _tokenizer(runtime, reference, task.read_differently))
    checks.run("chat template", lambda: _chats(runtime, reference["chats"]))
    checks.run("stop tokens", lambda: _stops(runtime, reference))
    checks.run("generation", answer)
    checks.run("predictions", read_windows)
    return {
        "read_differently": _known_differences(runtime, reference, task.read_differently),
        "generations": [g.to_json() for g in generations],
        "distances": [d.to_json() for d in distance.distances(positions)],
        "stretches": [s.to_json() for s in distance.stretches(positions)],
    }


def machine() -> str:
    """Name the machine that measured: system, architecture and, on Linux, the processor."""
    name = f"{platform.system()} {platform.machine()}"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{name}, {line.split(':', 1)[1].strip()}"
    return name


# ---- text in, text out ---------------------------------------------------------------------------------------


def _tokenizer(runtime: Runtime, reference: Json, known: Collection[str]) -> tuple[bool, str]:
    """Compare ids, and what they are decoded to, with the source tokenizer's."""
    sets = {"": reference["tokenizer"]} | {k: v for k, v in reference["unusual"].items() if k not in known}
    for kind, expected in sets.items():
        if wrong := _read_differently(runtime, expected):
            of = f" with {kind}" if kind else ""
            return False, f"{len(wrong)} of {len(expected['texts'])} texts{of} are read differently: {wrong[0]}"
    count = sum(len(expected["texts"]) for expected in sets.values())
    return True, f"{count} texts give the source's ids, and their ids the source's texts"


def _read_differently(runtime: Runtime, expected: Json) -> list[str]:
    """Return, for each text that gets other ids or is decoded to another text, how."""
    wrong = []
    for text, ids, back in zip(expected["texts"], expected["ids"], expected["decoded"], strict=True):
        if (got := runtime.encode(text)) != ids:
            wrong.append(f"{text[:40]!r} gives {_cut(got)}, not {_cut(ids)}")
        elif (read := runtime.decode(ids)) != back:
            wrong.append(f"{_cut(ids)} is decoded to {_cut(repr(read))}, not {_cut(repr(back))}")
    return wrong


def _known_differences(runtime: Runtime, reference: Json, known: Collection[str]) -> list[Json]:
    """Count what a runtime reads differently of the kinds of text that it is known to."""
    sets = {kind: reference["unusual"][kind] for kind in known}
    counted = {kind: len(_read_differently(runtime, expected)) for kind, expected in sets.items()}
    return [{"kind": k, "differing": n, "texts": len(sets[k]["texts"])} for k, n in counted.items() if n]


def _chats(runtime: Runtime, chats: list[Json]) -> tuple[bool, str]:
    """Compare rendered conversations with what the source's template makes of them."""
    for chat in chats:
        got = runtime.render(chat["messages"], tools=chat["tools"], add_generation_prompt=chat["add_generation_prompt"])
        if got != chat["text"]:
            at = next((i for i, (a, b) in enumerate(zip(got, chat["text"], strict=False)) if a != b), None)
            at = min(len(got), len(chat["text"])) if at is None else at
            there, wanted = got[max(at - 10, 0) : at + 20], chat["text"][max(at - 10, 0) : at + 20]
            return False, f"{chat['name']}: {there!r} stands where the source's template writes {wanted!r}"
    if not chats:
        return True, "the source has no chat template"
    return True, f"{len(chats)} conversations are written as the source's template writes them"


def _stops(runtime: Runtime, reference: Json) -> tuple[bool, str]:
    """Check that the runtime stops at all ids that end the original's answers, and that it does end one."""
    missing = sorted(set(reference["stop_ids"]) - runtime.stop_ids())
    if missing:
        return False, f"generating does not end at {', '.join(repr(runtime.decode([i])) for i in missing)}"
    names = f"ends at {len(reference['stop_ids'])} tokens"
    for ending in reference["endings"]:
        if len(runtime.generate(ending, _ENDING)) == _ENDING:
            return False, f"{names}, but went on for {_ENDING} where the original ends its answer"
    if not reference["endings"]:
        return True, f"{names}; the original itself ends none of the shipped answers"
    return True, f"{names}, and ended {len(reference['endings'])} answers where the original does"


def _generation(runtime: Runtime, prompt: Json) -> Generation:
    most = prompt["max_new_tokens"]
    ids = runtime.generate(prompt["ids"], most)
    return Generation(
        prompt=prompt["text"],
        prompt_ids=tuple(prompt["ids"]),
        ids=tuple(ids),
        text=runtime.decode(ids),
        stopped=len(ids) < most,
    )


def _said_something(generations: list[Generation]) -> tuple[bool, str]:
    silent = [g for g in generations if not g.ids]
    if silent:
        return False, f"nothing was generated for {silent[0].prompt[:40]!r}"
    return True, f"{sum(len(g.ids) for g in generations)} tokens from {len(generations)} prompts"


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


# ---- figures -------------------------------------------------------------------------------------------------


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


def _windows(runtime: Runtime, task: VerifyTask, reference: Json, report: Reporter) -> Iterator[Positions]:
    head = Head(Path(task.source), reference["head"])
    work = list(_work(runtime, reference["windows"]))
    expected: Array = None
    for number, (window, setting, run) in enumerate(work):
        report.progress("measuring", number, len(work), "windows")
        if not setting:  # the first of each window
            hidden = np.load(Path(task.reference) / window["file"], mmap_mode="r", allow_pickle=False)
            expected = head.logits(hidden)
        at = np.asarray(window["scored"])
        ids, first = window["ids"], int(at[0])
        text = [*ids, window["following"]]
        got, following = run(ids, first)[at - first], [text[i + 1] for i in at]
        kl, same, excess = distance.compare(expected, got, following, threads=task.threads)
        yield Positions(
            side=window["side"], kind=window["kind"], setting=setting, at=at, kl=kl, same=same, excess=excess
        )
    report.progress("measuring", len(work), len(work), "windows")


def _work(runtime: Runtime, windows: list[Json]) -> Iterator[tuple[Json, str, Logits]]:
    """Yield each window, under the recommended setting and then under others.

    Those are about the short side of a LongRoPE switch, and one window of each kind of text shows what they do.
    """
    others = runtime.other_settings if any(w["side"] == "long" for w in windows) else {}
    shown: set[str] = set()
    for window in windows:
        yield window, "", runtime.logits
        if window["side"] == "short" and window["kind"] not in shown:
            shown.add(window["kind"])
            yield from ((window, setting, run) for setting, run in others.items())


def _rotary(means: Means, task: VerifyTask) -> tuple[bool, str]:
    config = json.loads((Path(task.source) / "config.json").read_text(encoding="utf-8"))
    return True, rotary.compare(means.rotary(task), rotary.of_config(config))


def _weights(means: Means, task: VerifyTask, reference: Json, report: Reporter) -> tuple[bool, str]:
    source = Tensors(Path(task.source))
    total = len(source.names())

    def counted() -> Iterator[weights.Stored]:
        done = 0
        for stored in means.stored(task):
            yield stored
            done += len(stored.sources)
            report.progress("comparing weights", min(done, total), total, "tensors")

    found = weights.compare(counted(), source, tied=reference["head"]["weight"] != "lm_head.weight")
    most = f"{100 * found.largest_error:.2g} % in {found.largest_error_in}" if found.largest_error_in else "0"
    return True, f"{found.tensors} tensors are the source's; the largest relative error is {most}"
