"""Train the sample, in as little time as gives sharp predictions."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from bot.worker.sample.muon import Muon

Tensor = Any  # torch is not installed where mypy runs

_SHORT = (4, 256)  # sequences, and tokens in each, of a step below the LongRoPE switch
_LONG = (1, 1024)  # ... and of one past it, where all positions are turned by the long factors
_LONG_EVERY = 4
_MATRIX_RATE, _OTHER_RATE = 0.02, 0.006


def train(
    model: Any, documents: Sequence[Sequence[int]], *, steps: int, seed: int, progress: Callable[[int, int], None]
) -> None:
    """Train a model on documents of token ids, always in the same way for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [
        Muon(matrices, lr=_MATRIX_RATE),
        torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _rate(step, steps)) for o in optimizers]
    model.train()
    for step, batch in enumerate(_batches(documents, steps, generator)):
        progress(step, steps)
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    progress(steps, steps)
    model.eval()


def loss(model: Any, ids: Sequence[int], *, length: int, first: int, sharing: int = 1, most: int = 4096) -> float:
    """Return the mean loss, in nats per token, on the ``most`` first tokens of a text.

    It is read in windows of ``length`` tokens, which count from position ``first`` on. The last row of the vocabulary
    stands for ``sharing`` ids, equally likely.
    """
    losses = []
    with torch.inference_mode():
        for start in range(0, min(len(ids), most) - length + 1, length):
            window = torch.tensor([ids[start : start + length]])
            logits = model(input_ids=window, use_cache=False).logits[0, first:-1]
            targets = window[0, first + 1 :]
            shared = (targets == logits.shape[-1] - 1).float().mean()
            losses.append(torch.nn.functional.cross_entropy(logits, targets) + shared * math.log(sharing))
    return float(torch.stack(losses).mean())


def _batches(documents: Sequence[Sequence[int]], steps: int, generator: Any) -> Iterator[Tensor]:
    order = torch.randperm(len(documents), generator=generator).tolist()
    stream = torch.tensor([i for n in order for i in documents[n]])
    for step in range(steps):
        count, length = _LONG if step % _LONG_EVERY == _LONG_EVERY - 1 else _SHORT
        starts = torch.randint(len(stream) - length + 1, (count,), generator=generator)
        yield torch.stack([stream[s : s + length] for s in starts.tolist()])


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: up during a twentieth of them, then down to nothing."""
    warm = steps // 20
    return min((step + 1) / warm, (steps - step) / (steps - warm))
