"""The original model as transformers builds it, without weights: those are read from the files when they are needed.

Weights of 2 bytes are widened to float32, which is exact.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bot.records.artifacts import Json
from bot.worker.feed import Feed
from bot.worker.harness import MisfitProblem, Unreadable, error_line
from bot.worker.plain import Rounding, product
from bot.worker.tensors import Tensors

Tensor = Any  # torch is not installed where mypy runs

_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ArithmeticError)
_REASON = 300  # characters of another library's error that are passed on
_CHECKED = 1 << 22  # numbers looked at together: 16 MiB
_PART = 1024  # positions that go through a feed-forward part together: of Phi-4 it takes 300 MB for them


class Original:
    """A checkpoint: its structure as modules without weights, and its weights by the names of its files."""

    def __init__(self, source: Path, feed: Feed | None = None) -> None:
        """Read config and headers.

        Raises SourceProblem, naming the file or the tensor, when one cannot be read, or when the tensors are not those
        that the config asks for.
        """
        self.tensors = Tensors(source, feed)
        model = _structure(source)
        self._shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
        self._check()
        self.tensors.order(stored for name, shape in self._shapes.items() for stored in _stored(name, shape))
        self.config: dict[str, Json] = model.config.to_dict()
        tied = "lm_head.weight" not in self._shapes
        #: the names of the tensors that turn hidden states into logits, as head.Head takes them
        self.head = {
            "weight": "model.embed_tokens.weight" if tied else "lm_head.weight",
            "bias": "lm_head.bias" if "lm_head.bias" in self._shapes else None,
        }
        self.body = model.base_model
        self.norm = "norm" if hasattr(self.body, "norm") else "final_layernorm"
        self.body.rotary_emb = type(self.body.rotary_emb)(self.body.config)  # its buffers are computed, not stored
        self._roundings: tuple[Rounding, ...] = ()
        for module in self.body.layers.modules():
            if type(module) is torch.nn.Linear:  # PhiMoE's router is a subclass that does more
                self._multiply_ourselves(module)
        if self.config["model_type"] == "phimoe":
            _take_long_factors(self.body.rotary_emb)
            for n, layer in enumerate(self.body.layers):
                self._run_experts_one_by_one(n, layer.mlp.experts)  # once for all positions
        else:
            for layer in self.body.layers:
                self._run_in_parts(layer.mlp)

    @contextmanager
    def rounded(self, roundings: Sequence[Rounding]) -> Iterator[None]:
        """Let equal parts of the texts that go through a layer meet its matrices rounded, one part each rounding.

        Without any, all meet the matrices themselves.
        """
        self._roundings = tuple(roundings)
        try:
            yield
        finally:
            self._roundings = ()

    def order_backwards(self) -> None:
        """Say that the layers will be read once more, from the last one to the first."""
        layers = reversed(range(len(self.body.layers)))
        mine = (n for layer in layers for n in self._shapes if n.startswith(f"model.layers.{layer}."))
        self.tensors.order(stored for name in mine for stored in _stored(name, self._shapes[name]))

    def stored_as(self) -> set[str]:
        """Return the types that matrices have in the files, as safetensors name them."""
        matrices = {name: shape for name, shape in self._shapes.items() if len(shape) > 1}
        return {self.tensors.stored_as(stored) for name, shape in matrices.items() for stored in _stored(name, shape)}

    def embedded(self, texts: Sequence[Tensor]) -> list[Tensor]:
        """Return the embeddings of tensors of ids, of shape (*ids.shape, hidden size): only their rows are read."""
        distinct, inverse = np.unique(np.concatenate([ids.numpy().ravel() for ids in texts]), return_inverse=True)
        rows = torch.from_numpy(self.tensors.take("model.embed_tokens.weight", distinct))
        places = torch.from_numpy(inverse).split([ids.numel() for ids in texts])
        return [rows[of_text].view(*ids.shape, -1) for of_text, ids in zip(places, texts, strict=True)]

    def weights(self, module: str) -> dict[str, Tensor]:
        """Return the weights of a module of ``body`` by their names in it, in float32."""
        start = f"model.{module}."
        names = {n.removeprefix(start): n for n in self._shapes if n.startswith(start) and ".experts." not in n}
        return {short: self.read(_stored(name, self._shapes[name])) for short, name in names.items()}

    def read(self, names: Iterable[str]) -> Tensor:
        """Return tensors of the checkpoint as one, joined along the first axis, in float32."""
        parts = [torch.from_numpy(self.tensors.read(n)) for n in names]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def first_bad(self, module: str) -> str | None:
        """Return the first tensor of a module of ``body``, or of that name, that holds NaN or infinity, or None."""
        mine = [n for n in self._shapes if n.startswith(f"model.{module}.") or n == module]
        names = (stored for name in mine for stored in _stored(name, self._shapes[name]))
        return next((n for n in names if not self._finite(n)), None)

    def _finite(self, name: str) -> bool:
        rows, *rest = self.tensors.shape(name)
        step = max(_CHECKED // max(int(np.prod(rest)), 1), 1)
        return all(np.isfinite(self.tensors.read(name, i, i + step)).all() for i in range(0, rows, step))

    def _check(self) -> None:
        for name, shape in self._shapes.items():
            for stored, wanted in _stored(name, shape).items():
                if stored not in self.tensors.names():
                    raise MisfitProblem(f"no safetensors file holds {stored}, which config.json asks for")
                there = self.tensors.shape(stored)
                if there != wanted:
                    raise MisfitProblem(
                        f"the weights do not fit config.json: {stored} has the shape {list(there)}, not {list(wanted)}"
                    )

    def _product(self, rows: Tensor, weight: Tensor, places: Tensor | None = None, of: int = 0) -> Tensor:
        """Return rows times the transpose of a matrix; they are all rows, or those in ``places`` ``of`` so many."""
        if not self._roundings:
            return torch.from_numpy(rows.numpy() @ weight.numpy().T)
        parts = len(self._roundings)
        if places is None:
            counts = [len(rows) // parts] * parts
        else:
            counts = torch.bincount(places // (of // parts), minlength=parts).tolist()
        return product(rows, weight, self._roundings, counts)

    def _multiply_ourselves(self, linear: Any) -> None:
        """Let a matrix be multiplied by numpy's BLAS, and be rounded on the way where that is asked for.

        Nearly all of a reference's time goes there, and torch's is slower on AMD's processors: 165 where OpenBLAS does
        195 GFLOP/s on two cores with AVX-512.
        """

        def forward(states: Tensor) -> Tensor:
            rows = self._product(states.reshape(-1, states.shape[-1]), linear.weight)
            result = rows.view(*states.shape[:-1], -1)
            return result if linear.bias is None else result.add_(linear.bias)

        linear.forward = forward

    def _run_in_parts(self, feed_forward: Any) -> None:
        """Let some positions after the others go through a feed-forward part, which looks at each by itself."""
        whole = feed_forward.forward

        def forward(states: Tensor) -> Tensor:
            if self._roundings:  # few positions, and their places count
                return whole(states)
            rows = states.flatten(0, -2)
            result = torch.empty_like(rows)
            for start in range(0, len(rows), _PART):
                result[start : start + _PART] = whole(rows[start : start + _PART])
            return result.view_as(states)

        feed_forward.forward = forward

    def _run_experts_one_by_one(self, layer: int, experts: Any) -> None:
        """Let a layer's experts be read when their turn comes: all of them take 5 GB in float32."""
        matrices = {}
        for matrix in ("gate_up_proj", "down_proj"):
            name = f"model.layers.{layer}.mlp.experts.{matrix}"
            matrices[matrix] = list(_stored(name, self._shapes[name]))
            delattr(experts, matrix)

        def read(matrix: str, expert: int) -> Tensor:
            each = len(matrices[matrix]) // experts.num_experts
            return self.read(matrices[matrix][expert * each : (expert + 1) * each])

        def forward(states: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
            result = torch.zeros_like(states)
            for expert in range(experts.num_experts):
                places, choice = torch.where(chosen == expert)
                if len(places):
                    gate, up = self._product(states[places], read("gate_up_proj", expert), places, len(states)).chunk(
                        2, -1
                    )
                    rows = self._product(experts.act_fn(gate) * up, read("down_proj", expert), places, len(states))
                    result.index_add_(0, places, rows * shares[places, choice, None])
            return result

        experts.forward = forward


def _structure(source: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="sdpa",
                experts_implementation="eager",
            )
    except _UNREADABLE as error:
        raise Unreadable(f"config.json cannot be read: {error_line(error)[:_REASON]}") from error
    return model.eval()


def _stored(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a checkpoint, with their shapes, that a parameter of transformers' model is made of.

    They are one of that name, but for PhiMoE's feed-forward part.
    """
    layer, _, part = name.partition(".mlp.")
    start = f"{layer}.block_sparse_moe"
    if part == "router.weight":
        return {f"{start}.gate.weight": shape}
    if part == "experts.gate_up_proj":
        half = (shape[1] // 2, shape[2])
        return {f"{start}.experts.{e}.{w}.weight": half for e in range(shape[0]) for w in ("w1", "w3")}
    if part == "experts.down_proj":
        return {f"{start}.experts.{e}.w2.weight": shape[1:] for e in range(shape[0])}
    return {name: shape}


def _take_long_factors(rotary: Any) -> None:
    """Let PhiMoE take its long factors past the switch, as Microsoft's own code does.

    transformers 5.23 computes them without the length of the text, which gives the short ones always.
    """
    stock = rotary.rope_init_fn

    def remember_length(_: Any, __: Any, keywords: Json) -> None:
        length = int(keywords["position_ids"].max()) + 1
        rotary.rope_init_fn = lambda config: stock(config, seq_len=length)

    rotary.register_forward_pre_hook(remember_length, with_kwargs=True)
