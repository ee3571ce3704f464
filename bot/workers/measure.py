"""Verifying, as all formats share it: a runtime's own answers held against the reference's.

Runs inside every toolchain, so it imports only numpy beside the standard library.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from bot.records import Check, Distance, Generation, Json
from bot.tasks import VerifyTask
from bot.workers.harness import Reporter, peak_memory

Array = Any  # numpy is not installed where mypy runs
_ROWS = 64  # positions compared at once: 64 x 200,064 float64 are 102 MB


class Runtime(Protocol):
    """An artifact loaded in its own runtime."""

    name: str  #: package and version: "llama-cpp-python 0.3.36"

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        ...

    def logits(self, ids: Sequence[int]) -> Array:
        """Run the ids from an empty context; return float32 logits of shape (len(ids), vocabulary or more)."""
        ...

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily with the runtime's usual loop; the stop token that ended it is left out."""
        ...


def verify(task_json: Json, report: Reporter, load: Callable[[VerifyTask], Runtime]) -> Json:
    """Measure an artifact; return what Evidence holds beside the gate (see records.Evidence)."""
    started = time.monotonic()
    task = VerifyTask.from_json(task_json)
    folder = Path(task.reference)
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    report.progress("loading", 0, 1, "files")
    runtime = load(task)
    report.progress("loading", 1, 1, "files")

    checks = [_tokenizer_check(runtime, reference["tokenizer"])]
    distances = [_distance(runtime, folder, side, windows, report) for side, windows in _by_side(reference["windows"])]
    generations = [_generation(runtime, prompt) for prompt in reference["prompts"]]
    checks.append(_generation_check(generations))
    return {
        "runtime": runtime.name,
        "machine": machine(),
        "checks": [c.to_json() for c in checks],
        "distances": [d.to_json() for d in distances],
        "generations": [g.to_json() for g in generations],
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory": peak_memory(),
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


def log_softmax(logits: Array) -> Array:
    """Return the natural logarithm of the softmax over the last axis, in float64."""
    x = np.asarray(logits, dtype=np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def kl_divergence(reference: Array, other: Array) -> Array:
    """Return KL(reference || other) of each row, in nats. Both are log-probabilities of shape (rows, vocabulary)."""
    reference = np.asarray(reference, dtype=np.float64)
    return (np.exp(reference) * (reference - other)).sum(axis=-1)


def _by_side(windows: list[Json]) -> list[tuple[Literal["short", "long"], list[Json]]]:
    sides: tuple[Literal["short", "long"], ...] = ("short", "long")
    return [(s, chosen) for s in sides if (chosen := [w for w in windows if w["side"] == s])]


def _distance(
    runtime: Runtime, folder: Path, side: Literal["short", "long"], windows: list[Json], report: Reporter
) -> Distance:
    divergences, agreements = [], []
    for number, window in enumerate(windows):
        report.progress(f"measuring {side} windows", number, len(windows), "windows")
        expected = np.load(folder / window["file"], mmap_mode="r", allow_pickle=False)
        logits = runtime.logits(window["ids"])[window["first_scored"] :]
        if len(logits) != len(expected) or logits.shape[-1] < expected.shape[-1]:
            raise ValueError(f"logits of shape {logits.shape}, the reference has {expected.shape}")
        for i in range(0, len(expected), _ROWS):
            want = np.asarray(expected[i : i + _ROWS], dtype=np.float64)
            got = log_softmax(logits[i : i + _ROWS, : expected.shape[-1]])
            divergences.append(kl_divergence(want, got))
            agreements.append(want.argmax(-1) == got.argmax(-1))
    report.progress(f"measuring {side} windows", len(windows), len(windows), "windows")
    kl, same = np.concatenate(divergences), np.concatenate(agreements)
    if not np.isfinite(kl).all():
        raise ValueError("the runtime's predictions are not finite numbers")
    return Distance(
        side=side,
        tokens=len(kl),
        mean_kl=float(kl.mean()),
        max_kl=float(kl.max()),
        top1_agreement=float(same.mean()),
    )


def _tokenizer_check(runtime: Runtime, expected: Json) -> Check:
    texts, ids = expected["texts"], expected["ids"]
    wrong = [(t, want, got) for t, want in zip(texts, ids, strict=True) if (got := runtime.encode(t)) != want]
    if wrong:
        text, want, got = wrong[0]
        detail = f"{len(wrong)} of {len(texts)} texts differ; {text[:40]!r} gives {got[:8]}, not {want[:8]}"
    else:
        detail = f"{len(texts)} texts give the source's ids"
    return Check(name="tokenizer", passed=not wrong, detail=detail)


def _generation(runtime: Runtime, prompt: Json) -> Generation:
    ids = runtime.generate(prompt["ids"], prompt["max_new_tokens"])
    return Generation(prompt=prompt["text"], prompt_ids=tuple(prompt["ids"]), ids=tuple(ids), text=runtime.decode(ids))


def _generation_check(generations: list[Generation]) -> Check:
    silent = [g for g in generations if not g.ids]
    total = sum(len(g.ids) for g in generations)
    detail = (
        f"nothing was generated for {silent[0].prompt[:40]!r}"
        if silent
        else f"{total} tokens from {len(generations)} prompts"
    )
    return Check(name="generation", passed=not silent, detail=detail)
