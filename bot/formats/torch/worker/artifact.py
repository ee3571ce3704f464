"""PyTorch, looking into a folder without running it: its files, and the weights that transformers reads from them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.formats.torch.worker.layout import FILE
from bot.formats.torch.worker.scheme import decompressed, rounded_inputs, scheme_in
from bot.records.artifacts import Json
from bot.records.digests import CONTENT_FILES
from bot.records.tasks import VerifyTask
from bot.worker.constants import Constant
from bot.worker.constants import of_config as constants_of_config
from bot.worker.json_files import json_object
from bot.worker.order import model_order
from bot.worker.rotary import Rotary
from bot.worker.rotary import of_config as rotary_of_config
from bot.worker.rounding import Arithmetic, Rounding
from bot.worker.weights import ArtifactWeight, rows_at_once

Array = Any  # neither numpy nor torch is installed where mypy runs
Scheme = Any

_CONFIG = "config.json"
_GROUP = 32  # weights that share a scale at least; each is rounded to the nearest of its levels
_EXACT = 4  # bits at most, of which a quotient in bfloat16 leaves each weight the nearest level
_FINE = (0.955, 1.02)  # of rows of 8 bits: clamping takes 0.6 % of one, and steps that an outlier makes coarse 4 %
_SCALES = 2**-10  # scales are exact; that quotient of up to 8 steps is off by a 64th of one, and this allows a tenth
_PARTS = ("weight_packed", "weight", "weight_scale", "weight_shape")  # of a quantized matrix


def inspect(task: VerifyTask) -> str:
    """Say what is in an artifact: the weights, config.json, and the source's files that come with a model.

    Raises ValueError, naming the file, for one that is missing, damaged or too many.
    """
    folder, source = Path(task.artifact), Path(task.source)
    present = {p.name for p in folder.iterdir()}
    needed = {_CONFIG, FILE, *(name for name in CONTENT_FILES if (source / name).is_file())}
    if missing := sorted(needed - present):
        raise ValueError(f"{missing[0]} is missing")
    if extra := sorted(present - needed):
        raise ValueError(f"{extra[0]} is not part of a model of transformers")
    for name in present:
        if name.endswith(".json"):
            json_object(folder / name)
    scheme_in(json_object(folder / _CONFIG))
    with _opened(folder) as file:
        return f"{len(file.keys())} tensors in one safetensors file, and {len(present) - 1} files beside"


def _opened(folder: Path) -> Any:
    """Open the weights: the header of the file agrees with its size then. Raises ValueError for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(folder / FILE, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{FILE} is damaged: {error}") from error


def stored(task: VerifyTask) -> Iterator[ArtifactWeight]:
    """Yield every weight as transformers computes with it, one after the other: dequantized by compressed-tensors."""
    folder = Path(task.artifact)
    scheme = scheme_in(json_object(folder / _CONFIG))
    with _opened(folder) as file:
        names = set(file.keys())
        quantized = {n.removesuffix("_scale") for n in names if n.endswith("weight_scale")}
        plain = {n for n in names if not n.endswith(_PARTS[2:]) and n.replace("_packed", "") not in quantized}
        for name in sorted(quantized | plain, key=model_order):
            if name in plain:
                yield _plain(file, name)
            else:
                yield _quantized(file, names, name, scheme)


def _plain(file: Any, name: str) -> ArtifactWeight:
    sliced = file.get_slice(name)
    shape = tuple(sliced.get_shape())

    def parts() -> Iterator[Array]:
        for some in _steps(shape):
            yield sliced[some].float().numpy()

    return ArtifactWeight(sources=(name,), shape=shape, parts=parts)


def _quantized(file: Any, names: set[str], name: str, scheme: Scheme) -> ArtifactWeight:
    """Return a matrix that is quantized. Raises ValueError where a part of it is missing, or they do not agree."""
    import torch

    stem = name.removesuffix("weight")
    mine = [part for part in _PARTS if f"{stem}{part}" in names]
    of_rows = {part: file.get_slice(f"{stem}{part}") for part in mine if part != "weight_shape"}
    if "weight_shape" in mine:
        shape = tuple(file.get_tensor(f"{stem}weight_shape").tolist())
    elif "weight" in mine:
        shape = tuple(of_rows["weight"].get_shape())
    else:
        raise ValueError(f"{FILE} has no {name}, and no {stem}weight_shape")
    if len(shape) != 2 or any(sliced.get_shape()[0] != shape[0] for sliced in of_rows.values()):
        raise ValueError(f"the parts of {name} are of several shapes")

    def parts() -> Iterator[Array]:
        for some in _steps(shape):
            rows = {part: sliced[some] for part, sliced in of_rows.items()}
            count = len(rows["weight_scale"])
            if "weight_shape" in mine:
                rows["weight_shape"] = torch.tensor([count, shape[1]])
            yield decompressed(rows, scheme).numpy()

    both: dict[str, Any] = {"sources": (name,), "shape": shape, "parts": parts, "rounding": _rounding(scheme)}
    if scheme.weights.num_bits <= _EXACT:
        return ArtifactWeight(**both, nearest=_GROUP, scales=_SCALES)
    return ArtifactWeight(**both, slope=_FINE)


def _steps(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield which rows are read together."""
    columns = 1
    for size in shape[1:]:
        columns *= size
    step = rows_at_once(columns)
    return (slice(first, min(first + step, shape[0])) for first in range(0, shape[0], step))


def _rounding(scheme: Scheme) -> Rounding | None:
    """Return what is done to the inputs of a quantized matrix: of each token, by the scheme's own arithmetic."""
    import torch

    if scheme.input_activations is None:
        return None
    return lambda values: rounded_inputs(torch.from_numpy(values)[None], scheme)[0].numpy()


def rotary(task: VerifyTask) -> Rotary:
    """Return the angles that the artifact's config.json asks transformers for."""
    return rotary_of_config(_config(task))


def constants(task: VerifyTask) -> Iterator[Constant]:
    """Yield the numbers that transformers takes from the artifact's config.json."""
    return (Constant(what=what, value=asked.value) for what, asked in constants_of_config(_config(task)).items())


def arithmetic(task: VerifyTask) -> Arithmetic:
    """Return what is rounded on the way: inputs of products alone, for all is computed in float32 here."""
    return Arithmetic(products=scheme_in(_config(task)).input_activations is not None)


def _config(task: VerifyTask) -> dict[str, Json]:
    return json_object(Path(task.artifact) / _CONFIG)
