"""The converter's part of a GGUF file: its metadata and its tensors, none of them read yet.

llama.cpp's converter decides all of it; what it would only guess, or says otherwise than the source, is set right here.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bot.formats.gguf.worker.naming import names
from bot.formats.gguf.worker.vocabulary import stage
from bot.records.tasks import BuildTask, Target
from bot.worker.harness import Foreseen, NotFinite, NotTaken, error_line
from bot.worker.tokens import read_tokenizer, stop_ids

STORED = {"F32", "F16", "BF16"}  #: types that the converter writes; everything else is the quantizer's
_ENDS_ANYWAY = ("<|end|>", "<|endoftext|>", "<|im_end|>")  # llama_vocab in src/llama-vocab.cpp goes by their text


def kind_of(refused: str) -> str:
    """Return which kind of failure the quantizer's words are: it checks that each number it is given is finite."""
    return NotFinite.kind if "has invalid data" in refused else "toolchain"


def type_of(target: Target) -> str:
    """Return the type of a target's file, as llama.cpp has it: ``Q4_K_M``; "" where a size decides that."""
    return str(target.variant.options.get("ftype", ""))


def label_of(target: Target) -> str:
    """Return what a target's file is named for: its type, or its size (``fit-4.2GB``), which no other one has."""
    return type_of(target) or target.variant.short_name.replace(":", "-")


def file_of(task: BuildTask, target: Target) -> Path:
    """Return the path of a target's one file."""
    return Path(target.out) / f"{task.model_name}-{label_of(target)}.gguf"


def own_type(stored: set[str]) -> str:
    """Return the narrowest type of GGUF that holds every one of the types that safetensors name."""
    if stored <= {"BF16"}:
        return "BF16"
    return "F16" if stored <= {"F16"} else "F32"


def read_model(task: BuildTask, kind: str, out: Path) -> Any:
    """Return the converter's GGUFWriter, with all metadata and lazy tensors of the checkpoint in it.

    Raises NotTaken when the converter does not take the model, and SourceProblem.
    """
    converter = Path(sys.prefix) / "src" / "llama.cpp"
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from gguf import LlamaFileType

    types = {"F32": LlamaFileType.ALL_F32, "F16": LlamaFileType.MOSTLY_F16, "BF16": LlamaFileType.MOSTLY_BF16}
    torch.set_num_threads(task.threads)
    source = Path(task.source)
    tokenizer = read_tokenizer(source)
    try:
        with torch.inference_mode():
            architecture = get_model_architecture(ModelBase.load_hparams(source, False), ModelType.TEXT)
            model = get_model_class(architecture)(source, types[kind], out, metadata_override=_names(task, tokenizer))
            model.prepare_tensors()
            _read_vocabulary_from(model, stage(source, tokenizer, Path(task.scratch) / "vocabulary"))
            model.prepare_metadata(vocab_only=False)
            _name_stop_tokens(source, tokenizer, model.gguf_writer)
            _scale_as_the_source_does(source, model.gguf_writer)
    except Foreseen:
        raise
    except Exception as error:
        reason = error_line(error).replace(f"{source}/", "")
        raise NotTaken(f"llama.cpp's converter does not take the model: {reason}") from error
    return model.gguf_writer


def _read_vocabulary_from(model: Any, folder: Path) -> None:
    """Have a converter's model read its vocabulary, and nothing else, from a folder."""
    set_vocab = model.set_vocab

    def from_folder() -> None:
        home, model.dir_model = model.dir_model, folder
        try:
            set_vocab()
        finally:
            model.dir_model = home

    model.set_vocab = from_folder


def _names(task: BuildTask, tokenizer: Any) -> Path:
    """Write the converter's metadata override: the name (see naming.py), and nothing guessed from names of folders.

    The converter guesses from the folder's name, which is ours, and from the config's ``_name_or_path``, which in a
    fine-tune often still names the base model and its maker.
    """
    guessed = ("organization", "basename", "finetune", "version", "size_label")
    path = Path(task.scratch) / "metadata.json"
    path.write_text(json.dumps({f"general.{g}": None for g in guessed} | names(task.model_name, tokenizer)))
    return path


def _name_stop_tokens(source: Path, tokenizer: Any, writer: Any) -> None:
    """Name the tokens that end the source's answers, and that llama.cpp would not stop at by itself.

    A file has one token for the end of a text, of a turn and of a message each; llama.cpp stops at all three, and at
    tokens whose text it knows. Phi-3.5 ends at ``<|assistant|>`` too, which is none of them.
    """
    metadata = writer.kv_data[0]
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    ids = [i for i in stop_ids(source, tokenizer) if eos is None or i != eos.value]
    others = [i for i in ids if tokenizer.convert_ids_to_tokens(i) not in _ENDS_ANYWAY]
    free = [name for name in ("eom", "eot") if f"tokenizer.ggml.{name}_token_id" not in metadata]
    for name, token in zip(free, others, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)


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
