"""Run an original model on many texts, layer by layer: the weights are read from disk once, and never all held.

All texts go through a layer before the next one is read, so the memory that this takes does not grow with the number
of layers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bot.records.artifacts import Json
from bot.worker import plain
from bot.worker.harness import NotFinite
from bot.worker.original import Original
from bot.worker.plain import Rounding

Array = Any  # neither torch nor numpy is installed where mypy runs
Tensor = Any

_BATCH = 4096  # positions that go through a layer together: of Phi-4 attention takes 700 MB for them


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Ids to run from an empty context, and the positions whose hidden states are wanted."""

    ids: Sequence[int]
    positions: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Readings of one length that go through a model whose weights are rounded, by each of some roundings."""

    readings: Sequence[Reading]
    roundings: Sequence[Rounding]


@dataclass(kw_only=True)
class Batch:
    """Readings of one length: their places in the list, their states, and what each layer gets beside these.

    With ``roundings``, equal parts of them meet weights that are rounded, one part each rounding.
    """

    places: list[int]
    states: Tensor
    keywords: list[dict[str, Json]]
    roundings: Sequence[Rounding] = ()


def hidden_states(
    original: Original, exact: Sequence[Reading], rounded: Rounded, progress: Callable[[int, int], None]
) -> tuple[list[Array], float]:
    """Return the last hidden states, after the final norm, of each reading: float32 of shape (positions, size).

    Behind those of the readings that are ``exact`` come, for each rounding, those of the rounded ones. Returned beside
    them is what the exact ones took in the layers, in seconds of processor. Calls ``progress`` with the number of
    layers that are done, and of all. Raises NotFinite, naming the tensor, when numbers are not finite.
    """
    total, spent = len(original.body.layers), 0.0
    readings = [*exact, *(r for _ in rounded.roundings for r in rounded.readings)]
    with torch.inference_mode():
        batches = list(_embedded(original, exact, rounded))
        _check_finite(original, batches, "embed_tokens")
        for n, layer in enumerate(original.body.layers):
            progress(n, total)
            weights = original.weights(f"layers.{n}")
            for batch in batches:
                before = time.process_time()
                with original.rounded(batch.roundings):
                    batch.states = torch.func.functional_call(layer, weights, (batch.states,), batch.keywords[n])
                spent += 0.0 if batch.roundings else time.process_time() - before
            del weights  # before the next layer's are read
            _check_finite(original, batches, f"layers.{n}")
        norm, weights = getattr(original.body, original.norm), original.weights(original.norm)
        wanted = {
            place: torch.func.functional_call(norm, weights, (states[list(readings[place].positions)],)).numpy()
            for batch in batches
            for place, states in zip(batch.places, batch.states, strict=True)
        }
        progress(total, total)
    return [wanted[place] for place in range(len(readings))], spent


def _of_one_length(readings: Sequence[Reading]) -> Iterator[list[int]]:
    """Yield the places of readings that go through a layer together."""
    for length in dict.fromkeys(len(r.ids) for r in readings):
        places = [place for place, r in enumerate(readings) if len(r.ids) == length]
        most = max(_BATCH // length, 1)
        yield from (places[i : i + most] for i in range(0, len(places), most))


def _embedded(original: Original, exact: Sequence[Reading], rounded: Rounded) -> Iterator[Batch]:
    groups = list(_of_one_length(exact))
    ids = [torch.tensor([list(exact[place].ids) for place in places]) for places in groups]
    to_round = rounded.readings if rounded.roundings else ()
    if to_round:
        ids.append(torch.tensor([list(r.ids) for r in to_round]))
    states = original.embedded(ids)
    for places, of_group in zip(groups, states, strict=False):
        yield prepared(original, places, of_group)
    if to_round:
        rows = states[-1].flatten(0, 1)
        all_rounded = torch.cat([plain.rounded(rows, rounding) for rounding in rounded.roundings])
        places = list(range(len(exact), len(exact) + len(rounded.roundings) * len(to_round)))
        batch = prepared(original, places, all_rounded.view(len(places), *states[-1].shape[1:]))
        batch.roundings = rounded.roundings
        yield batch


def prepared(original: Original, places: list[int], states: Tensor) -> Batch:
    """Run what the model does before its layers, and note what it hands to each of them: masks, rotary embeddings."""
    body, keywords = original.body, []

    class Noting(torch.nn.Module):  # type: ignore[misc]
        def forward(self, states: Tensor, **given: Json) -> Tensor:
            keywords.append(given)
            return states

    layers, norm = body.layers, getattr(body, original.norm)
    body.layers = torch.nn.ModuleList(Noting() for _ in layers)
    setattr(body, original.norm, torch.nn.Identity())  # its weights are not there
    try:
        states = body(inputs_embeds=states, use_cache=False).last_hidden_state
    finally:
        body.layers = layers
        setattr(body, original.norm, norm)
    return Batch(places=places, states=states, keywords=keywords)


def _check_finite(original: Original, batches: Sequence[Batch], module: str) -> None:
    if all(torch.isfinite(b.states).all() for b in batches):
        return
    tensor = original.first_bad(module)
    where = f"{tensor} holds NaN or infinity" if tensor else f"no tensor of {module} does"
    raise NotFinite(f"the weights give numbers that are not finite ({where})")
