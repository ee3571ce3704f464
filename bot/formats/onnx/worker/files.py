"""ONNX, looking at a folder without running it: which files there are, and whether they are whole."""

from pathlib import Path
from typing import Any

from bot.records.artifacts import Json
from bot.records.tasks import VerifyTask
from bot.worker.json_files import json_object

MODEL = "model.onnx"  #: the graph; its tensors are in the file beside it
DATA = "model.onnx.data"
CONFIG = "genai_config.json"  #: how onnxruntime-genai is to run the graph
_NEEDED = (CONFIG, MODEL, DATA, "tokenizer.json", "tokenizer_config.json")
_ALLOWED = ("chat_template.jinja",)


def inspect(task: VerifyTask) -> str:
    """Say in a few words what is in the artifact's folder, as Means.inspect.

    Raises ValueError, naming the file, for one that is missing, unexpected or damaged: a data file that has not the
    size that the graph tells, or a graph with tensors anywhere else.
    """
    folder = Path(task.artifact)
    present = {p.name: p for p in folder.iterdir()}
    for name in _NEEDED:
        if name not in present:
            raise ValueError(f"{name} is missing")
    for name, path in sorted(present.items()):
        if name not in (*_NEEDED, *_ALLOWED) or path.is_symlink() or not path.is_file():
            raise ValueError(f"{name} is not a file of an ONNX model")
    config = json_object(folder / CONFIG)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        json_object(folder / name)
    if _model_named(config) != MODEL:
        raise ValueError(f"{CONFIG} does not name {MODEL}")
    model = read_graph(folder)
    count = _check_tensors(model, (folder / DATA).stat().st_size)
    return f"an ONNX graph of {model.graph.num_nodes()} nodes with {count} tensors, and its tokenizer"


def read_graph(folder: Path) -> Any:
    """Return the graph as onnx_ir's Model; its tensors are read only when they are asked for.

    Raises protobuf's DecodeError when it is damaged.
    """
    import onnx_ir

    return onnx_ir.load(folder / MODEL)


def _model_named(config: dict[str, Json]) -> Json:
    try:
        return config["model"]["decoder"]["filename"]
    except (KeyError, TypeError):
        return None


def _check_tensors(model: Any, size: int) -> int:
    """Return how many tensors a graph has in its data file of ``size`` bytes; they have to end where it ends."""
    import onnx_ir

    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    outside = [t for t in tensors if isinstance(t, onnx_ir.ExternalTensor)]
    if not outside:
        raise ValueError(f"{MODEL} has no tensors in {DATA}")
    end = 0
    for tensor in outside:
        if tensor.location != DATA:
            raise ValueError(f"{MODEL} looks for {tensor.name} in {str(tensor.location)!r}, not in {DATA}")
        length = tensor.nbytes if tensor.length is None else tensor.length
        if length != tensor.nbytes:
            raise ValueError(f"{MODEL} gives {tensor.name} {length} bytes, its shape takes {tensor.nbytes}")
        end = max(end, (tensor.offset or 0) + length)
    if end != size:
        raise ValueError(f"{DATA} has {size} bytes, the graph's tensors take {end}")
    return len(outside)
