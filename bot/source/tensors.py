"""The tensors of a model, by their names and types: all tensors of Phi's own classes are known.

transformers passes over a tensor that its class does not have, and makes up one that is missing, with a warning.
Converters do otherwise. So either is refused here, by the headers alone, before anything is downloaded.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from bot.errors import OtherWeightsError, UnsupportedArchitectureError
from bot.records.artifacts import Json
from bot.source.adapters import check_adapter_tensors
from bot.source.copies import CLASSES, as_written
from bot.source.fit import check_fit
from bot.source.joined import joined_tensors
from bot.source.meaning import APART, RENAME, architecture
from bot.source.prefixes import bare_names
from bot.source.safetensors_files import Tensor
from bot.source.text_parts import TEXT_PARTS, text_tensors

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
QUANTIZED = ("quantization_config", "compression_config", "quantization")  #: keys of transformers, and of mlx-lm

_FLOATS = ("BF16", "F16", "F32")
_WHOLE = frozenset({*_FLOATS, "F64", "I64", "BOOL"})  # with 64-bit floats, and buffers: nothing is quantized into these
_COMPUTED = re.compile(r"(model\.layers\.\d+\.self_attn|model)\.rotary_emb\.inv_freq")  # stored by old versions
_TRIED, _LONGEST = 100, 1000  # names that are looked at for a prefix, and their characters: a name may have millions
_APART = re.compile(r"\.(self_attn\.[qkv]_proj|mlp\.(gate|up)_proj)\.")  # as Llama has them
_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

_PHI = (
    r"self_attn\.(q_proj|k_proj|v_proj|dense)\.(weight|bias)|self_attn\.[qk]_layernorm\.(weight|bias)"
    r"|mlp\.fc[12]\.(weight|bias)|input_layernorm\.(weight|bias)"
)
_PHI3 = (
    r"self_attn\.(qkv_proj|o_proj)\.weight|mlp\.(gate_up_proj|down_proj)\.weight"
    r"|(input|post_attention)_layernorm\.weight"
)
_LLAMA = r"self_attn\.[qkvo]_proj\.weight|mlp\.(gate|up|down)_proj\.weight|(input|post_attention)_layernorm\.weight"
_MOE = (
    r"self_attn\.[qkvo]_proj\.(weight|bias)|block_sparse_moe\.(gate|experts\.\d+\.w[123])\.weight"
    r"|(input|post_attention)_layernorm\.(weight|bias)"
)
_NAMES = {
    name: re.compile(rf"model\.embed_tokens\.weight|model\.layers\.\d+\.({layer})|model\.{norm}|{head}")
    for name, layer, norm, head in (
        ("PhiForCausalLM", _PHI, r"final_layernorm\.(weight|bias)", r"lm_head\.(weight|bias)"),
        ("Phi3ForCausalLM", _PHI3, r"norm\.weight", r"lm_head\.weight"),
        *((name, _LLAMA, r"norm\.weight", r"lm_head\.weight") for name in CLASSES),
        ("PhiMoEForCausalLM", _MOE, r"norm\.(weight|bias)", r"lm_head\.(weight|bias)"),
        ("PhimoeForCausalLM", _MOE, r"norm\.(weight|bias)", r"lm_head\.(weight|bias)"),
    )
}

CLASSES_READ = frozenset(_NAMES)  #: of whose models all tensors are known


def check_tensors(tensors: Mapping[str, Tensor], config: dict[str, Json], *, where: str) -> None:
    """Check that a model's tensors are those of the class that its (normal) config names, and all its head needs.

    Raises AdapterError, UnsupportedArchitectureError for weights that are quantized already, and OtherWeightsError.
    """
    names = _NAMES.get(architecture(config))
    if names is not None:  # Phi-4-multimodal has adapters of its own
        check_adapter_tensors(tensors, where=where)
    _check_full_precision(tensors, config, where)
    if names is None:
        return
    unknown = sorted(n for n in tensors if not names.fullmatch(n) and not _COMPUTED.fullmatch(n))
    if unknown:
        raise _unknown(unknown, architecture(config), lambda n: names.fullmatch(n) is not None, where)
    if EMBEDDING not in tensors or (HEAD not in tensors and config.get("tie_word_embeddings") is not True):
        raise _headless(tensors, where)
    check_fit(tensors, config, where=where)


def read_tensors(
    tensors: Mapping[str, Tensor], config: dict[str, Json], *, layout: str, where: str
) -> Mapping[str, Tensor]:
    """Check a model's tensors, and return them as toolchains see them (see joined.py).

    ``layout`` is the class that a copy or a text part was saved as, "" for any other model. Raises what
    ``bare_names``, ``check_tensors`` and ``joined_tensors`` raise.
    """
    if architecture(config) in _NAMES and layout not in TEXT_PARTS:
        check_adapter_tensors(tensors, where=where)  # before they are told to be under another prefix
    bare = {name: tensors[stored] for name, stored in bare_names(tensors, where=where).items()}
    if layout in TEXT_PARTS:
        names = text_tensors(bare, layout, where=where)
        check_tensors({name: bare[own] for name, own in names.items()}, config, where=where)
    else:
        check_tensors(bare, as_written(config, layout) if layout else config, where=where)
    return joined_tensors(tensors, layout, where=where) if layout or bare.keys() != tensors.keys() else tensors


def is_quantized(config: dict[str, Json], dtypes: Iterable[str]) -> bool:
    """Say whether weights are quantized, by the types they are stored in; where none is known, by what config says."""
    known = set(dtypes)
    return not known <= _WHOLE if known else any(config.get(key) for key in QUANTIZED)


def as_stored(config: dict[str, Json], tensors: Iterable[str]) -> tuple[dict[str, Json], tuple[str, ...]]:
    """Return what a (normal) config says when it says what is stored, and a line for a person on each change.

    The tensors have passed ``check_tensors``. A head that is stored is taken, as transformers takes it: where it equals
    the embedding it makes no difference, and where it does not, transformers leaves the two untied.
    """
    found, notes = dict(config), []
    if found.get("tie_word_embeddings") is True and HEAD in tensors:
        found["tie_word_embeddings"] = False
        notes.append(f"config.json says tie_word_embeddings, and {HEAD} is stored beside the embedding: it is taken")
    for key in QUANTIZED:
        if (value := found.pop(key, None)) is not None:
            method = value.get("quant_method") if isinstance(value, dict) else None
            called = f" ({method[:40]!a})" if isinstance(method, str) else ""
            notes.append(
                f"config.json has {key}{called}, and the weights are not quantized: it is built without the key"
            )
    return found, tuple(notes)


def _check_full_precision(tensors: Mapping[str, Tensor], config: dict[str, Json], where: str) -> None:
    for name, tensor in sorted(tensors.items()):
        if tensor.dtype in _FLOATS or _COMPUTED.fullmatch(name):
            continue
        if tensor.dtype == "F64":
            raise OtherWeightsError(
                f"{where} stores {name[:80]!a} as F64, which converters do not read",
                hint=f"Save the model in one of {', '.join(_FLOATS)}.",
            )
        settings = next((s for k in QUANTIZED if isinstance(s := config.get(k), dict)), {})
        method = settings.get("quant_method")
        how = f"by {ascii(method)[:40]}: " if isinstance(method, str) else ""
        raise UnsupportedArchitectureError(
            f"{where} is quantized already ({how}{name[:80]!a} is stored as {tensor.dtype})",
            hint="Give the original model with its full-precision weights.",
        )


def _unknown(unknown: list[str], class_name: str, known: Callable[[str], bool], where: str) -> OtherWeightsError:
    """Return the error for tensors that a class does not have: under a prefix, without one, or others altogether."""
    rename = "Load them with safetensors' load_file, rename them, and save them with save_file."
    for name in (n for n in unknown[:_TRIED] if len(n) <= _LONGEST):
        bare = _WRAPPERS.sub("", name)
        prefix = _prefix(bare, known)
        if bare != name and prefix is not None:
            wrapper = name[: len(name) - len(bare)] if name.endswith(bare) else _WRAPPERS.findall(name)[0][1] + "."
            return _other(f"{where} has its tensors under the prefix {wrapper + prefix!a}, as {name[:100]!a}", rename)
        if prefix:
            return _other(f"{where} has its tensors under the prefix {prefix[:60]!a}, as {name[:100]!a}", rename)
        if known(f"model.{name}"):
            return _other(f"{where} has its tensors without the prefix 'model.', as {name[:100]!a}", rename)
    hint = (
        "transformers would leave them out. Save the model itself, without what training added (a value head, "
        "statistics), or with the class that has them."
    )
    if class_name == "Phi3ForCausalLM" and any(_APART.search(n) for n in unknown):
        hint = APART
    elif any(n.startswith(("transformer.h.", "layers.0.wte.")) for n in unknown):
        hint = RENAME
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    return _other(f"{where} holds {unknown[0][:100]!a}{more}, which a {class_name} does not have", hint)


def _prefix(name: str, known: Callable[[str], bool]) -> str | None:
    """Return what is to be taken from the beginning of a name to have a known one, or None."""
    parts = name.split(".")
    for count in range(len(parts)):
        if known(".".join(parts[count:])):
            return "".join(f"{part}." for part in parts[:count])
    return None


def _headless(tensors: Iterable[str], where: str) -> OtherWeightsError:
    if EMBEDDING not in tensors:
        return _other(f"{where} stores no {EMBEDDING}", "Download or save the model again.")
    return _other(
        f"{where} stores no {HEAD}, and config.json does not say tie_word_embeddings: transformers would make one up",
        "Set tie_word_embeddings to true if the embedding is the output matrix too; else save the model again.",
    )


def _other(message: str, hint: str) -> OtherWeightsError:
    return OtherWeightsError(message, hint=hint)
