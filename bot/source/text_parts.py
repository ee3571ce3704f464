"""Text parts: models that take pictures or speech as well, of which only what reads and writes text is built.

Inside of them is a whole Phi-3, beside the towers that see and hear: its tensors have Phi-3's names, or the names that
a matrix has under the towers' own LoRA. So it is read as Phi-3, without a line of code from the model's repo, and all
else is left out and counted. A tensor that is neither text nor of a known tower is refused by its name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.errors import ConfigValueError, OtherWeightsError, UnsupportedArchitectureError
from bot.printable import size
from bot.records.artifacts import Json, LeftOut
from bot.source.meaning import architecture, respelled
from bot.source.prefixes import bare_names
from bot.source.values import check_values

if TYPE_CHECKING:  # it asks config.py, which asks this module
    from bot.source.safetensors_files import Tensor

PICTURES, SPEECH = "pictures", "speech"  #: what cannot be given to a text part

_NO_NAME = re.compile("(?!)")


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A class of models: its ``model_type``, and what its tensors beside the text part are called, by their input.

    ``text`` matches names in the text part that are not Phi-3's; the groups together are Phi-3's name.
    ``settings`` are the keys of its config that its towers read.
    """

    model_type: str
    beside: Mapping[str, re.Pattern[str]]
    settings: frozenset[str]
    text: re.Pattern[str] = _NO_NAME


_EMBEDDING, _WITH_VISION = "model.embed_tokens.weight", "model.vision_embed_tokens.wte.weight"
_LINEAR = r"model\.layers\.\d+\.(?:self_attn\.(?:qkv|o)_proj|mlp\.(?:gate_up|down)_proj)"
_OF_VISION = r"img_processor\..+|img_projection\..+|glb_GN|sub_GN"
_KINDS = {
    "Phi3VForCausalLM": _Kind(
        model_type="phi3_v",
        # Its vision part holds the embedding of text too, and training tools store that under either name, or both.
        beside={PICTURES: re.compile(rf"model\.vision_embed_tokens\.(?:{_OF_VISION}|wte\.weight)")},
        settings=frozenset({"embd_layer", "img_processor"}),
    ),
    "Phi4MMForCausalLM": _Kind(
        model_type="phi4mm",
        beside={
            PICTURES: re.compile(
                rf"model\.embed_tokens_extend\.image_embed\.(?:{_OF_VISION})|{_LINEAR}\.lora_[AB]\.vision\.weight"
            ),
            SPEECH: re.compile(
                r"model\.embed_tokens_extend\.audio_embed\.(?:encoder|audio_projection)\..+"
                rf"|{_LINEAR}\.lora_[AB]\.speech\.weight"
            ),
        },
        settings=frozenset({"audio_processor", "embd_layer", "img_processor", "speech_lora", "vision_lora"}),
        text=re.compile(rf"({_LINEAR}\.)base_layer\.(weight)"),
    ),
    "Phi4ForCausalLMV": _Kind(
        model_type="phi4-siglip",
        beside={PICTURES: re.compile(r"model\.(?:vision_tower|mm_projector)\..+")},
        settings=frozenset({"text_config", "vision_config"}),
    ),
}
_OF_TOWERS = ("mm_", "tune_mm_", "freeze_mm_", "_attn_implementation")  # beginnings of keys of no use to the text
_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

TEXT_PARTS = {name: kind.model_type for name, kind in _KINDS.items()}  #: classes of such models, to their model_type


def text_part_of(config: dict[str, Json]) -> str:
    """Return the class of models with pictures or speech that a config names, or means by its type; "" for others."""
    name = architecture(config)
    if not name:
        name = next((c for c, kind in TEXT_PARTS.items() if kind == config.get("model_type")), "")
    return name if name in TEXT_PARTS else ""


def read_text_part(config: dict[str, Json], *, where: str) -> dict[str, Json]:
    """Return the config of the Phi-3 in such a model.

    Raises UnsupportedArchitectureError where its model_type is another, ConfigValueError where it does not say how
    large the text part is, and what ``check_values`` raises.
    """
    layout = text_part_of(config)
    kind = _KINDS[layout]
    config = respelled(config)
    if config.get("model_type", kind.model_type) != kind.model_type:
        raise UnsupportedArchitectureError(
            f"{where} is a {layout} whose model_type is {str(config['model_type'])[:40]!a}",
            hint=f"Set it to {kind.model_type!r} if that is what the model is.",
        )
    found = {k: v for k, v in config.items() if k not in kind.settings and not k.startswith(_OF_TOWERS)}
    found |= {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    check_values(found, where=where)
    for key in _NEEDED:
        if found.get(key) is None:
            raise ConfigValueError(
                f"config.json of {where} does not say {key}", hint="Set it to what the original model has."
            )
    return found


def text_tensors(tensors: Iterable[str], layout: str, *, where: str) -> dict[str, str]:
    """Return the names of the text part's tensors as Phi-3 has them, each with the name that it is stored under.

    Names that are neither of a known tower nor known under another name are taken for Phi-3's own: ``check_tensors``
    says of what. Raises OtherWeightsError for a matrix that is stored under two names.
    """
    kind, stored = _KINDS[layout], set(tensors)
    found: dict[str, str] = {}
    for name in tensors:
        if any(names.fullmatch(name) for names in kind.beside.values()):
            continue
        match = kind.text.fullmatch(name)
        own = "".join(match.groups()) if match else name
        if own in found:
            raise OtherWeightsError(
                f"{where} stores {found[own][:100]!a} and {name[:100]!a}, which are one matrix",
                hint="Save the model again, with one of them.",
            )
        found[own] = name
    if _EMBEDDING not in found and _WITH_VISION in stored:
        return {_EMBEDDING: _WITH_VISION} | found
    return found


def left_out_of(tensors: Mapping[str, "Tensor"], layout: str, *, where: str) -> LeftOut:
    """Return what of such a model is not read. Raises what ``bare_names`` and ``text_tensors`` raise."""
    kind, names = _KINDS[layout], bare_names(tensors, where=where)
    read = set(text_tensors(names, layout, where=where).values())
    beside = [tensors[stored] for name, stored in names.items() if name not in read]
    return LeftOut(inputs=tuple(kind.beside), tensors=len(beside), bytes=sum(t.end - t.begin for t in beside))


def said(layout: str, left_out: LeftOut) -> str:
    """Return the line that tells a person what is built of such a model, and what is not."""
    inputs = " and ".join(left_out.inputs)
    return (
        f"its class is {layout}, and its text part alone is read, as Phi-3: {inputs} cannot be given to the files, and "
        f"the {left_out.tensors} tensors for them ({size(left_out.bytes)}) are not in these"
    )
