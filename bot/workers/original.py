"""Load an original model to compute with in float32, without holding its weights in float32.

Weights of 2 bytes stay as they are stored, and each matrix is widened, some rows at a time, when it is used. Widening
is exact, so the results are those of a model loaded in float32, in half of its memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from bot.workers.harness import SourceProblem
from bot.workers.tensors import Tensors

Tensor = Any  # torch is not installed where mypy runs

_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError)
_WIDENED = 1 << 22  # numbers of a matrix widened at once: 16 MiB


def load_model(source: Path) -> Any:
    """Return the model in a folder, computing in float32.

    Raises SourceProblem, naming the file, when weights or config cannot be read, or when a tensor that the model
    needs is in no file.
    """
    logging.disable_progress_bar()
    stored = _stored_types(source)
    narrow = {"BF16": torch.bfloat16, "F16": torch.float16}.get(next(iter(stored))) if len(stored) == 1 else None
    try:
        AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise SourceProblem(f"config.json cannot be read: {_line(error)}") from error
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=narrow or torch.float32,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        if "allocate" in str(error):  # too little memory is not the model's fault
            raise
        raise SourceProblem(f"the weights do not fit config.json: {_line(error)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise SourceProblem(f"no safetensors file holds {missing[0]}, which config.json asks for")
    return widened(model.eval())


def head_names(source: Path, config: Any) -> dict[str, str | None]:
    """Return the names of the tensors that turn hidden states into logits, as head.Head takes them."""
    if config.tie_word_embeddings:
        return {"weight": "model.embed_tokens.weight", "bias": None}
    return {"weight": "lm_head.weight", "bias": "lm_head.bias" if "lm_head.bias" in Tensors(source).names() else None}


def widened(model: Any) -> Any:
    """Make a model compute in float32 from the weights as they are; return it."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = _WideningLinear
        elif type(module) is torch.nn.Embedding:
            module.__class__ = _WideningEmbedding
        else:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return model


def first_bad_weight(model: Any) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, or None."""
    return next((name for name, p in model.named_parameters() if not torch.isfinite(p).all()), None)


class _WideningLinear(torch.nn.Linear):  # type: ignore[misc]
    def forward(self, x: Tensor) -> Tensor:
        rows = max(_WIDENED // self.in_features, 1)
        bias = None if self.bias is None else self.bias.float()
        result = x.new_empty((*x.shape[:-1], self.out_features))
        for i in range(0, self.out_features, rows):
            part = slice(i, i + rows)
            result[..., part] = functional.linear(x, self.weight[part].float(), None if bias is None else bias[part])
        return result


class _WideningEmbedding(torch.nn.Embedding):  # type: ignore[misc]
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids).float()


def _stored_types(source: Path) -> set[str]:
    """Return the types of all tensors as safetensors names them. Raises SourceProblem on a file that is not whole."""
    return {dtype for path in _shards(source) for dtype in _types_in(path)}


def _shards(source: Path) -> list[Path]:
    index = source / "model.safetensors.index.json"
    if not index.exists():
        return [source / "model.safetensors"]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceProblem(f"{index.name} cannot be read: {_line(error)}") from error
    return [source / Path(name).name for name in names]


def _types_in(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no dict
                yield tensors.get_slice(name).get_dtype()
    except (SafetensorError, OSError) as error:
        raise SourceProblem(f"{path.name} cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
