"""Find what rounding each matrix costs, by one backward pass over the calibration text. Needs torch.

The original reads the beginning of some windows, layer by layer; what each layer is given is kept on the disk. At the
end a token is drawn for each position from what the model gives there, and the gradients of their log-probabilities go
back, layer by layer: each is read and computed once more, and what its matrices get and give is at hand. So the memory
is that of one layer and of what it computes. What is kept of it is in sensitivities.py.

Of mixtures nothing is kept: few positions reach each of their experts, and the moments of these are not known either.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bot.records.artifacts import Json
from bot.records.tasks import SensitivitiesTask
from bot.worker.conversations import encode
from bot.worker.feed import Feed
from bot.worker.harness import NotFinite, Reporter, main, peak_memory
from bot.worker.head import Head
from bot.worker.original import Original
from bot.worker.sensitivities import Use, Writer, probe, sampled
from bot.worker.solver import PART
from bot.worker.streaming import prepared
from bot.worker.tokens import read_tokenizer
from bot.worker.windows import longrope_switch

Array = Any  # neither torch nor numpy is installed where mypy runs
Tensor = Any
Take = Callable[[Array, Array, Array], None]  # what a matrix is multiplied with, the gradient of what it gives, and it

_WINDOWS, _LENGTH = 20, 128  # 2,560 tokens predict the KL of whole files; windows are from all over the text
_SEED = 0  # of the tokens that are drawn
_WHAT = "finding what rounding costs"


def weigh(task_json: Json, report: Reporter) -> Json:
    """Leave the sensitivities of a model in the task's folder (see sensitivities.py).

    Returns ``sha256`` (a digest of them all), ``tokens``, ``peak_memory`` in bytes and ``seconds``. Raises
    SourceProblem when the model cannot be read, or does not give finite numbers.
    """
    started = time.monotonic()
    task = SensitivitiesTask.from_json(task_json)
    source = Path(task.source)
    torch.set_num_threads(task.threads)
    feed = Feed(report) if task.streamed else None
    original = Original(source, feed)
    text = encode(read_tokenizer(source), Path(task.text).read_text(encoding="utf-8"))
    ids = _windows(text, min(_LENGTH, longrope_switch(original.config) or _LENGTH, len(text)))
    writer = Writer(folder=Path(task.out), tokens=ids.size)
    if original.config["model_type"] != "phimoe":
        _Passes(original, Head(source, original.head, feed), ids, writer, Path(task.scratch)).run(report)
    return {
        "sha256": writer.finish(),
        "tokens": ids.size,
        "peak_memory": peak_memory(),
        "seconds": round(time.monotonic() - started, 3),
    }


def _windows(text: list[int], length: int) -> Array:
    """Return windows of a text, as far from each other as they can be, of shape (windows, tokens)."""
    count = min(_WINDOWS, len(text) // length)
    starts = np.linspace(0, len(text) - length, count).astype(int)
    return np.array([text[start : start + length] for start in starts])


class _Product(torch.autograd.Function):  # type: ignore[misc] # torch is not installed where mypy runs
    """The product with a matrix, by numpy's BLAS as in original.py, which tells what went in and what comes back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, take: Take) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.take = take
        return torch.from_numpy(rows.detach().numpy() @ weight.numpy().T)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, weight = (saved.detach().numpy() for saved in ctx.saved_tensors)
        given = gradient.contiguous().numpy()
        ctx.take(rows, given, weight)
        return torch.from_numpy(given @ weight), None, None


class _Passes:
    """Both passes of a model over some windows."""

    def __init__(self, original: Original, head: Head, ids: Array, writer: Writer, scratch: Path) -> None:
        self._original, self._head, self._ids = original, head, ids
        self._writer, self._scratch = writer, scratch
        for name, module in original.body.layers.named_modules():
            if type(module) is torch.nn.Linear:
                _tap(module, partial(self._take, f"model.layers.{name}.weight"))
        for layer in original.body.layers:
            layer.mlp.__dict__.pop("forward", None)  # that of original.py writes in place, and keeps no gradients

    def run(self, report: Reporter) -> None:
        """Go forward and back. Raises NotFinite."""
        layers = self._original.body.layers
        total = 2 * len(layers) + 1
        with torch.no_grad():
            [embedded] = self._original.embedded([torch.from_numpy(self._ids)])
            batch = prepared(self._original, list(range(len(self._ids))), embedded)
            states = batch.states
            for n, layer in enumerate(layers):
                report.progress(_WHAT, n, total, "layers")
                np.save(self._file(n), states.numpy())
                weights = self._original.weights(f"layers.{n}")
                states = torch.func.functional_call(layer, weights, (states,), batch.keywords[n])
                del weights  # before the next layer's are read
        gradient = self._through_head(states)
        self._original.order_backwards()
        for n in reversed(range(len(layers))):
            report.progress(_WHAT, total - n - 1, total, "layers")
            states = torch.from_numpy(np.load(self._file(n))).requires_grad_()
            weights = self._original.weights(f"layers.{n}")
            result = torch.func.functional_call(layers[n], weights, (states,), batch.keywords[n])
            [gradient] = torch.autograd.grad(result, states, gradient)
            self._sample(n, weights)
            del weights, result
            self._file(n).unlink()
        self._looked_up(embedded.flatten(0, 1).numpy(), gradient.flatten(0, 1).numpy())
        report.progress(_WHAT, total, total, "layers")

    def _file(self, layer: int) -> Path:
        return self._scratch / f"states-{layer}.npy"

    def _take(self, matrix: str, states: Array, gradients: Array, weight: Array) -> None:
        """Keep what errors of a matrix cost."""
        step = max(PART // weight.shape[1], 1)
        change = np.zeros(len(states))
        for first in range(0, len(weight), step):
            off = probe(weight[first : first + step])
            change += np.einsum("ti,ti->t", states @ off.T, gradients[:, first : first + step])
        size = np.square(gradients, dtype=np.float64).sum(axis=1)
        columns = np.einsum("t,tc->c", size, np.square(states, dtype=np.float64))
        self._writer.add(matrix, self._use(matrix, change, columns))

    def _use(self, matrix: str, change: Array, columns: Array, *, lookup: bool = False) -> Use:
        """Return what is kept of a use, from how much the probe changes the log-probabilities of each position."""
        by_window = change.reshape(self._ids.shape)
        nats = np.square(by_window).mean(axis=1) / 2
        together = np.square(by_window.sum(axis=1)) / by_window.shape[1] / 2
        if not np.isfinite(nats).all() or not np.isfinite(columns).all():
            raise NotFinite(f"the gradients of {matrix} are not finite")
        return Use(nats=nats, together=together, columns=columns / self._ids.size, lookup=lookup)

    def _sample(self, layer: int, weights: dict[str, Tensor]) -> None:
        for name, module in self._original.body.layers[layer].named_modules():
            if type(module) is torch.nn.Linear:
                weight = weights[f"{name}.weight"].numpy()
                self._writer.add_rows(f"model.layers.{layer}.{name}.weight", weight[sampled(len(weight))])

    def _through_head(self, states: Tensor) -> Tensor:
        """Draw a token for each position; return the gradient of the last layer's states."""
        norm, weights = getattr(self._original.body, self._original.norm), self._original.weights(self._original.norm)
        states = states.detach().requires_grad_()
        result = torch.func.functional_call(norm, weights, (states,))
        rows = result.detach().flatten(0, 1).numpy()
        drawn, total = self._drawn(rows)
        matrix = str(self._original.head["weight"])
        gradient, change, size = np.zeros_like(rows), np.zeros(len(rows)), np.zeros(len(rows))
        first = 0
        for weight, bias in self._head.matrices():
            logits = rows @ weight.T if bias is None else rows @ weight.T + bias
            given = -np.exp(logits - total[:, None], dtype=np.float32)
            mine = np.flatnonzero((first <= drawn) & (drawn < first + len(weight)))
            given[mine, drawn[mine] - first] += 1
            gradient += given @ weight
            change += np.einsum("ti,ti->t", rows @ probe(weight).T, given)
            size += np.square(given).sum(axis=1, dtype=np.float64)
            first += len(weight)
        columns = np.einsum("t,tc->c", size, np.square(rows, dtype=np.float64))
        self._writer.add(matrix, self._use(matrix, change, columns))
        self._writer.add_rows(matrix, self._original.tensors.take(matrix, sampled(first)))
        [found] = torch.autograd.grad(result, states, torch.from_numpy(gradient).view_as(result))
        return found

    def _drawn(self, rows: Array) -> tuple[Array, Array]:
        """Return a token for each position, drawn from what the model gives, and the logarithms of all exponentials.

        The largest of logits and Gumbel noise is drawn as often as its probability says, and needs no probabilities.
        """
        random = np.random.default_rng(_SEED)
        best: Array = np.full(len(rows), -np.inf)
        drawn: Array = np.zeros(len(rows), dtype=int)
        total = np.full(len(rows), -np.inf)
        first = 0
        for part in self._head.parts(rows):
            logits = part.astype(np.float64)
            total = np.logaddexp(total, np.logaddexp.reduce(logits, axis=1))
            logits += random.gumbel(size=logits.shape)
            found = logits.argmax(axis=1)
            noisy = logits[np.arange(len(rows)), found]
            drawn = np.where(noisy > best, first + found, drawn)
            best = np.maximum(best, noisy)
            first += logits.shape[1]
        if not np.isfinite(total).all():
            raise NotFinite("the weights give logits that are not finite")
        return drawn, total

    def _looked_up(self, rows: Array, gradients: Array) -> None:
        """Keep what errors of the embedding cost where its rows are looked up."""
        matrix = "model.embed_tokens.weight"
        change = np.einsum("ti,ti->t", probe(rows), gradients)
        columns = np.square(gradients, dtype=np.float64).sum(axis=0)
        self._writer.add(matrix, self._use(matrix, change, columns, lookup=True))
        if matrix != self._original.head["weight"]:
            count = self._original.tensors.shape(matrix)[0]
            self._writer.add_rows(matrix, self._original.tensors.take(matrix, sampled(count)))


def _tap(linear: Any, take: Take) -> None:
    """Let a matrix tell what it is multiplied with, and the gradients of what it gives."""

    def forward(states: Tensor) -> Tensor:
        rows = states.reshape(-1, states.shape[-1])
        result = _Product.apply(rows, linear.weight, take).view(*states.shape[:-1], -1)
        return result if linear.bias is None else result + linear.bias

    linear.forward = forward


if __name__ == "__main__":
    main({"weigh": weigh})
