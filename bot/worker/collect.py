"""Collect the second moments of what each matrix is multiplied with, on the calibration text. Needs torch.

The original runs once more, as for its reference: layer by layer, in float32, as transformers computes it. That is
done apart from the reference, so that a release of which nothing is calibrated takes no longer, and a new calibration
text leaves all references as they are. Our own engine (engine.py) would need no torch, but it holds the products of a
layer at all positions; here some positions go through a layer after the others, and the memory of one layer does.

Experts are left out: few positions reach each of them, and the moments of each take as much as those of a whole layer.
"""

import time
from pathlib import Path
from typing import Any

import torch

from bot.records.artifacts import Json
from bot.records.tasks import MomentsTask
from bot.worker.conversations import encode
from bot.worker.feed import Feed
from bot.worker.harness import NotFinite, Reporter, main, peak_memory
from bot.worker.moments import Sums, write_index
from bot.worker.original import Original
from bot.worker.streaming import Reading, Rounded, hidden_states
from bot.worker.tokens import read_tokenizer
from bot.worker.windows import longrope_switch

Tensor = Any  # torch is not installed where mypy runs

_WINDOW = 512  # tokens of the text that are read from an empty context


def collect(task_json: Json, report: Reporter) -> Json:
    """Leave the moments of a model in the task's folder (see moments.py).

    Returns ``sha256`` (a digest of them all), ``tokens``, ``peak_memory`` in bytes and ``seconds``. Raises
    SourceProblem when the model cannot be read, or does not give finite numbers.
    """
    started = time.monotonic()
    task = MomentsTask.from_json(task_json)
    source, out = Path(task.source), Path(task.out)
    torch.set_num_threads(task.threads)
    text = encode(read_tokenizer(source), Path(task.text).read_text(encoding="utf-8"))
    original = Original(source, Feed(report) if task.streamed else None)
    length = min(_WINDOW, longrope_switch(original.config) or _WINDOW, len(text))
    starts = range(0, len(text) - length + 1, length)
    inputs = _Inputs(original, out)

    def layer_done(done: int, total: int) -> None:
        inputs.write()
        report.progress("reading the calibration text", done, total, "layers")

    states, _ = hidden_states(
        original,
        [Reading(ids=text[start : start + length], positions=range(length)) for start in starts],
        Rounded(readings=(), roundings=()),
        layer_done,
    )
    for of_window in states:
        inputs.add(str(original.head["weight"]), torch.from_numpy(of_window))
    inputs.write()
    tokens = len(starts) * length
    return {
        "sha256": write_index(out, tokens=tokens, inputs=inputs.files, hashes=inputs.hashes),
        "tokens": tokens,
        "peak_memory": peak_memory(),
        "seconds": round(time.monotonic() - started, 3),
    }


class _Inputs:
    """The moments of the layer at hand, and the files of those before it, by the matrices that they are of."""

    def __init__(self, original: Original, out: Path) -> None:
        """Have the matrices of a model tell what they are multiplied with."""
        self.files: dict[str, list[str]] = {}
        self.hashes: dict[str, str] = {}
        self._out = out
        self._sums: dict[str, Sums] = {}
        self._same: dict[str, str] = {}  # by a matrix, the one before it that is multiplied with the same
        self._last: tuple[str, Tensor] = ("", None)
        for name, module in original.body.layers.named_modules():
            if type(module) is torch.nn.Linear:
                matrix = f"model.layers.{name}.weight"
                module.register_forward_pre_hook(lambda _, given, matrix=matrix: self.add(matrix, given[0]))

    def add(self, matrix: str, states: Tensor) -> None:
        """Add states that a matrix is multiplied with."""
        before, same = self._last
        if states is same:
            self._same[matrix] = before
            return
        self._last = (matrix, states)
        rows = states.reshape(-1, states.shape[-1]).numpy()
        if matrix not in self._sums:
            self._sums[matrix] = Sums(rows.shape[-1])
        self._sums[matrix].add(rows)

    def write(self) -> None:
        """Write what was added since the last time. Raises NotFinite, naming the matrix."""
        for matrix, sums in self._sums.items():
            if not sums.finite:
                raise NotFinite(f"what {matrix} is multiplied with is too large to be squared in float32")
            written = sums.write(self._out, matrix.removesuffix(".weight"))
            self.files[matrix] = list(written)
            self.hashes |= written
        self.files |= {matrix: self.files[before] for matrix, before in self._same.items()}
        self._sums, self._same, self._last = {}, {}, ("", None)


if __name__ == "__main__":
    main({"collect": collect})
