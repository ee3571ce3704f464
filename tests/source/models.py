"""Small models as files, for tests: whole ones, and the pieces to damage them with."""

import json
from collections.abc import Mapping
from pathlib import Path

from bot.records.artifacts import Json

CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "model_type": "phi3",
    "hidden_size": 4,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
TENSORS = {"model.embed_tokens.weight": ("BF16", [8, 4]), "model.norm.weight": ("F32", [4])}
_BITS = {"BF16": 16, "F16": 16, "F32": 32, "F64": 64, "F4": 4, "U8": 8, "I32": 32, "I64": 64, "F8_E4M3": 8}


def layers(count: int, *, hidden: int = 4, inner: int = 8) -> dict[str, tuple[str, list[int]]]:
    """Return the tensors of so many layers of a Phi-3 with one head."""
    shapes = {
        "self_attn.qkv_proj": [3 * hidden, hidden],
        "self_attn.o_proj": [hidden, hidden],
        "mlp.gate_up_proj": [2 * inner, hidden],
        "mlp.down_proj": [hidden, inner],
        "input_layernorm": [hidden],
        "post_attention_layernorm": [hidden],
    }
    return {f"model.layers.{n}.{name}.weight": ("BF16", s) for n in range(count) for name, s in shapes.items()}


def header(tensors: Mapping[str, tuple[str, list[int]]]) -> dict[str, Json]:
    """Return the header of a safetensors file that holds such tensors one after the other."""
    entries: dict[str, Json] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, count = end, 1
        for dimension in shape:
            count *= dimension
        end += count * _BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return entries


def safetensors(tensors: Mapping[str, tuple[str, list[int]]], *, fill: int = 1) -> bytes:
    """Return a whole safetensors file."""
    entries = header(tensors)
    size = max((e["data_offsets"][1] for n, e in entries.items() if n != "__metadata__"), default=0)
    return framed(json.dumps(entries).encode(), bytes([fill]) * size)


def framed(head: bytes, data: bytes = b"") -> bytes:
    """Return a header and data as a safetensors file holds them."""
    return len(head).to_bytes(8, "little") + head + data


def sentencepiece(pieces: tuple[str, ...] = ("<unk>", "a", "b")) -> bytes:
    """Return a SentencePiece model that has nothing but pieces."""
    encoded = [b"\x0a" + bytes([len(p.encode())]) + p.encode() for p in pieces]
    return b"".join(b"\x0a" + bytes([len(e)]) + e for e in encoded)


def files(**changes: bytes | None) -> dict[str, bytes]:
    """Return the files of a whole model with one weights file; a change of None leaves one out.

    Keys of changes have ``__`` for a dot: ``config__json=b"{}"``.
    """
    found: dict[str, bytes | None] = {
        "config.json": json.dumps(CONFIG).encode(),
        "generation_config.json": b'{"eos_token_id": [32000, 32007]}',
        "model.safetensors": safetensors(TENSORS),
        "tokenizer.json": b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
        "tokenizer.model": sentencepiece(),
        "tokenizer_config.json": b'{"tokenizer_class": "LlamaTokenizer", "model_max_length": 131072}',
        "LICENSE": b"MIT License\n",
        "modeling_phi3.py": b"raise SystemExit('code from a model repo was run')\n",
    }
    found |= {name.replace("__", "."): content for name, content in changes.items()}
    return {name: content for name, content in found.items() if content is not None}


def sharded() -> dict[str, bytes]:
    """Return the files of a whole model whose weights are in two shards with an index."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    embed, norm = TENSORS.items()
    index = {"metadata": {"total_size": 80}, "weight_map": {embed[0]: first, norm[0]: second}}
    found = files(model__safetensors=None)
    found[first] = safetensors(dict([embed]))
    found[second] = safetensors(dict([norm]))
    found["model.safetensors.index.json"] = json.dumps(index).encode()
    return found


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Write files into a folder, which is made if need be, and return it."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
