"""GGUF: llama.cpp's own converter and quantizer, and llama-cpp-python as the runtime.

All three are of one llama.cpp, the one in the source archive of llama-cpp-python: the toolchain keeps the converter
(``convert_hf_to_gguf.py`` and its packages) in ``src/llama.cpp`` beside its ``bin``.

A checkpoint is converted once per job, in the type that its weights have, and each variant is quantized from that file.
"""

import ctypes
import importlib.metadata
import json
import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bot.records import Json
from bot.tasks import BuildTask, Target, VerifyTask
from bot.workers import measure
from bot.workers.checkpoint import forbid_remote_code, weight_types
from bot.workers.disk import out_of_space
from bot.workers.harness import Reporter, SourceProblem, main

_STORED = {"F32", "F16", "BF16"}  # written by the converter; everything else by the quantizer
_QUANTIZER_BUFFER = 128 << 20  # bytes; the rows of a tensor that are worked on at once
_CONTEXT_STEP = 256  # llama.cpp allocates contexts in multiples of this


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


def _strips_after_tokens(source: Path) -> bool:
    """Say whether the tokenizer drops white space after its special tokens, as that of Phi-3 does.

    Its chat template has a line break after each of them, so without it every prompt would have other ids.
    """
    path = source / "tokenizer.json"
    if not path.exists():
        return False
    added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
    tokens = [t for t in added if t["content"] not in ("<unk>", "<s>", "<|endoftext|>")]  # it never strips after these
    stripping = [t for t in tokens if t["rstrip"]]
    return 2 * len(stripping) > len(tokens)


# ---- quantizing ----------------------------------------------------------------------------------------------


def _quantize(task: BuildTask, target: Target, base: Path, report: Reporter) -> None:
    import llama_cpp

    kind, out = _type(target), _file(task, target)
    log = _QuantizerLog(f"quantizing to {kind}", report)
    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
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
    report.failed(target.variant, log.error or "llama.cpp's quantizer failed without a message")


class _QuantizerLog:
    """Reads progress and the error off the quantizer's log; passes it on to standard error."""

    _TENSOR = re.compile(r"^\[ *(\d+)/ *(\d+)\] ")
    _ERROR = 4  # GGML_LOG_LEVEL_ERROR

    def __init__(self, what: str, report: Reporter) -> None:
        self._what, self._report = what, report
        self.error = ""

    def __call__(self, level: int, text: bytes, _: ctypes.c_void_p) -> None:
        line = text.decode("utf-8", errors="replace")
        sys.stderr.write(line)
        if found := self._TENSOR.match(line):
            self._report.progress(self._what, int(found[1]), int(found[2]), "tensors")
        elif level == self._ERROR and line.strip():
            self.error = line.strip().rpartition("failed to quantize: ")[2]


# ---- running -------------------------------------------------------------------------------------------------


class Runtime:
    """A GGUF file in llama-cpp-python, on the CPU.

    llama.cpp chooses between a LongRoPE model's short and long factors by the context it allocates, not by the tokens
    that are in it. So each piece of work gets the smallest context that holds it: what the original would do.
    """

    name = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"

    def __init__(self, file: Path, threads: int) -> None:
        self._file, self._threads = file, threads
        self._llama: Any = None
        self._context(_CONTEXT_STEP)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: special tokens in it recognised, none added."""
        return [int(i) for i in self._llama.tokenize(text.encode(), add_bos=False, special=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        text: bytes = self._llama.detokenize(list(ids), special=True)
        return text.decode("utf-8", errors="replace")

    def logits(self, ids: Sequence[int]) -> Any:
        """Run the ids from an empty context; return float32 logits of shape (len(ids), vocabulary).

        The array is the runtime's own and holds until the next call.
        """
        llama = self._context(len(ids))
        llama.reset()
        llama.eval(ids)
        return llama.scores[: len(ids)]

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Continue greedily until one of the model's end-of-generation tokens, which is left out."""
        import llama_cpp

        llama = self._context(len(ids) + max_new_tokens)
        llama.reset()
        vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
        new: list[int] = []
        for token in llama.generate(list(ids), temp=0.0):
            if llama_cpp.llama_vocab_is_eog(vocabulary, token):
                break
            new.append(int(token))
            if len(new) == max_new_tokens:
                break
        return new

    def _context(self, tokens: int) -> Any:
        import llama_cpp

        size = -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP
        if self._llama is None or self._llama.n_ctx() != size:
            if self._llama is not None:
                self._llama.close()
            self._llama = llama_cpp.Llama(
                str(self._file),
                n_ctx=size,
                n_threads=self._threads,
                n_threads_batch=self._threads,
                logits_all=True,
                verbose=False,
            )
        return self._llama


def load(task: VerifyTask) -> Runtime:
    """Load the one GGUF file of an artifact."""
    (file,) = Path(task.artifact).glob("*.gguf")
    return Runtime(file, task.threads)


if __name__ == "__main__":
    main({"build": build, "verify": partial(measure.verify, load=load)})
