"""GGUF, building: llama.cpp's own converter and quantizer. ``runtime`` runs what they make.

All three are of one llama.cpp, the one in the source archive of llama-cpp-python: the toolchain keeps the converter
(``convert_hf_to_gguf.py`` and its packages) in ``src/llama.cpp`` beside its ``bin``.

A checkpoint is converted once per job, in the type that its weights have, and each variant is quantized from that file.
"""

import ctypes
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from bot.records import Json
from bot.tasks import BuildTask, Target
from bot.workers.checkpoint import forbid_remote_code, weight_types
from bot.workers.disk import out_of_space
from bot.workers.gguf.llama import Log
from bot.workers.harness import Reporter, SourceProblem
from bot.workers.tokens import read_tokenizer, stop_ids

_STORED = {"F32", "F16", "BF16"}  # written by the converter; everything else by the quantizer
_QUANTIZER_BUFFER = 128 << 20  # bytes; the rows of a tensor that are worked on at once
_QUANTIZED = re.compile(r"^\[ *(\d+)/ *(\d+)\] ")  # how the quantizer's log begins the line of a tensor
_ENDS_ANYWAY = ("<|end|>", "<|endoftext|>", "<|im_end|>")  # llama_vocab in src/llama-vocab.cpp goes by their text
_NEVER_STRIPPING = {"<unk>", "<s>", "<|endoftext|>"}  # llama_vocab, in a model that is called phi-3
_NO_REASON = "llama.cpp's quantizer failed without a message"


def build(task_json: Json, report: Reporter) -> None:
    """Build each target as one ``MODEL-TYPE.gguf``. A type that the quantizer refuses fails alone.

    Raises SourceProblem when the converter cannot read the model, and OSError when the disk fills up.
    """
    logging.basicConfig(level=logging.INFO)
    task = BuildTask.from_json(task_json)
    forbid_remote_code()
    own = _own_type(weight_types(Path(task.source)))
    base = Path(task.scratch) / f"{task.model_name}-{own}.gguf"
    quantized = [t for t in task.targets if _type(t) not in _STORED]
    unchanged = [t for t in task.targets if _type(t) == own]
    cast = [t for t in task.targets if _type(t) in _STORED - {own}]
    try:
        if quantized or unchanged:
            _convert(task, own, base, report)
        for target in quantized:
            _quantize(task, target, base, report)
        for target in unchanged:  # last: an output belongs to the bot as soon as it is reported
            base.rename(_file(task, target))
            report.built(target.variant)
    finally:
        base.unlink(missing_ok=True)
    for target in cast:
        _convert(task, _type(target), _file(task, target), report)
        report.built(target.variant)


def _type(target: Target) -> str:
    return str(target.variant.options["ftype"])


def _file(task: BuildTask, target: Target) -> Path:
    return Path(target.out) / f"{task.model_name}-{_type(target)}.gguf"


def _own_type(stored: set[str]) -> str:
    """Return the narrowest type of GGUF that holds every one of the types that safetensors name."""
    if stored <= {"BF16"}:
        return "BF16"
    return "F16" if stored <= {"F16"} else "F32"


# ---- converting ----------------------------------------------------------------------------------------------


def _convert(task: BuildTask, kind: str, out: Path, report: Reporter) -> None:
    """Write the checkpoint as a GGUF file of one of the stored types."""
    what = f"converting to {kind}"
    report.progress(what, 0, 0, "tensors")
    try:
        writer = _read_model(task, kind, out)
        tensors = [t for shard in writer.tensors for t in shard.values()]
        total = sum(t.nbytes for t in tensors)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            report.progress(what, done, total, "bytes")

        for tensor in tensors:
            tensor.tensor = _Counted(tensor.tensor, count)
        try:
            writer.write_header_to_file(path=out)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        except OSError as error:  # numpy names the lack of space, but not its number
            raise out_of_space(out.parent, total - done) or error from error
    except BaseException:
        out.unlink(missing_ok=True)
        raise


class _Counted:
    """A tensor that says so when it is written."""

    def __init__(self, tensor: Any, count: Any) -> None:
        self._tensor, self._count = tensor, count
        self.nbytes: int = tensor.nbytes

    def tofile(self, file: Any) -> None:
        self._tensor.tofile(file)
        self._count(self.nbytes)


def _read_model(task: BuildTask, kind: str, out: Path) -> Any:
    """Return the converter's GGUFWriter, with all metadata and lazy tensors of the checkpoint in it."""
    converter = Path(sys.prefix) / "src" / "llama.cpp"
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from gguf import LlamaFileType

    types = {"F32": LlamaFileType.ALL_F32, "F16": LlamaFileType.MOSTLY_F16, "BF16": LlamaFileType.MOSTLY_BF16}
    torch.set_num_threads(task.threads)
    source = Path(task.source)
    try:
        with torch.inference_mode():
            architecture = get_model_architecture(ModelBase.load_hparams(source, False), ModelType.TEXT)
            model = get_model_class(architecture)(source, types[kind], out, metadata_override=_names(task))
            model.prepare_tensors()
            model.prepare_metadata(vocab_only=False)
            _name_stop_tokens(source, model.gguf_writer)
            _scale_as_the_source_does(source, model.gguf_writer)
    except SourceProblem:
        raise
    except Exception as error:
        reason = " ".join(str(error).replace(f"{source}/", "").split())
        raise SourceProblem(
            f"llama.cpp's converter does not take the model: {type(error).__name__}: {reason}"
        ) from error
    return model.gguf_writer


def _names(task: BuildTask) -> Path:
    """Write the converter's metadata override: the model's name, and nothing guessed from names of folders.

    The converter guesses from the folder's name, which is ours, and from the config's ``_name_or_path``, which in a
    fine-tune often still names the base model and its maker.
    """
    name = task.model_name
    if _strips_after_tokens(Path(task.source)) and not re.search("phi-?3", name, re.IGNORECASE):
        name += " (phi3)"  # llama.cpp strips only in a model with such a name: llama_vocab in src/llama-vocab.cpp
    guessed = ("organization", "basename", "finetune", "version", "size_label")
    path = Path(task.scratch) / "metadata.json"
    path.write_text(json.dumps({"general.name": name} | {f"general.{g}": None for g in guessed}))
    return path


def _name_stop_tokens(source: Path, writer: Any) -> None:
    """Name the tokens that end the source's answers, and that llama.cpp would not stop at by itself.

    A file has one token for the end of a text, of a turn and of a message each; llama.cpp stops at all three, and at
    tokens whose text it knows. Phi-3.5 ends at ``<|assistant|>`` too, which is none of them.
    """
    tokenizer = read_tokenizer(source)
    metadata = writer.kv_data[0]
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    ids = [i for i in stop_ids(source, tokenizer) if eos is None or i != eos.value]
    others = [i for i in ids if tokenizer.convert_ids_to_tokens(i) not in _ENDS_ANYWAY]
    free = [name for name in ("eom", "eot") if f"tokenizer.ggml.{name}_token_id" not in metadata]
    for name, token in zip(free, others, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)


def _strips_after_tokens(source: Path) -> bool:
    """Say whether the tokenizer drops white space after its special tokens, as that of Phi-3 does.

    Its chat template has a line break after each of them, so without it every prompt would have other ids. Phi-4-mini
    drops it too, but llama.cpp does not load a model with such a name and without Phi-3's tokens.
    """
    path = source / "tokenizer.json"
    if not path.exists():
        return False
    added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
    if not {t["content"] for t in added}.issuperset(_NEVER_STRIPPING | {"</s>"}):
        return False
    tokens = [t for t in added if t["content"] not in _NEVER_STRIPPING]
    stripping = [t for t in tokens if t["rstrip"]]
    return 2 * len(stripping) > len(tokens)


def _scale_as_the_source_does(source: Path, writer: Any) -> None:
    """Name the scale of queries and keys that a config of Phi-3.5-MoE gives.

    The converter computes it from the lengths of contexts, as other models with LongRoPE have it. A file has one for
    both sides of the switch; where a config has two, the converter's stays, and verifying finds it.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    scale = rope.get("short_mscale")
    if scale and scale == rope.get("long_mscale"):
        writer.kv_data[0][f"{writer.arch}.rope.scaling.attn_factor"].value = float(scale)


# ---- quantizing ----------------------------------------------------------------------------------------------


def _quantize(task: BuildTask, target: Target, base: Path, report: Reporter) -> None:
    import llama_cpp

    kind, out = _type(target), _file(task, target)

    def count(line: str) -> None:
        if found := _QUANTIZED.match(line):
            report.progress(f"quantizing to {kind}", int(found[1]), int(found[2]), "tensors")

    log = Log(count)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = task.threads
    params.max_buf_size = _QUANTIZER_BUFFER
    failed = llama_cpp.llama_model_quantize(str(base).encode(), str(out).encode(), ctypes.byref(params))
    if not failed:
        report.built(target.variant)
        return
    full = out_of_space(out.parent)
    out.unlink(missing_ok=True)
    if full is not None:
        raise full
    report.failed(target.variant, (log.errors or [_NO_REASON])[-1].removeprefix("failed to quantize: "))
