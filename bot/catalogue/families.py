"""The families of Phi: the kinds of release that the bot is for, each with a small checkpoint to try it on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """Releases that are built alike: one architecture, one kind of tokenizer, one chat format.

    ``repos`` are examples of it on the Hub. ``text_part`` says that only the text part of a model with pictures or
    speech is read (see source/text_parts.py), and ``copied`` that it is another family saved as a Llama or a Mistral
    (see source/copies.py).
    """

    name: str
    title: str
    repos: tuple[str, ...]
    text_part: bool = False
    copied: bool = False


_ROWS = (
    Family(name="phi-2", title="Phi-2", repos=("microsoft/phi-2", "microsoft/phi-1_5")),
    Family(name="phi-3-mini-4k", title="Phi-3-mini-4k", repos=("microsoft/Phi-3-mini-4k-instruct",)),
    Family(name="phi-3-mini-128k", title="Phi-3-mini-128k", repos=("microsoft/Phi-3-mini-128k-instruct",)),
    Family(name="phi-3-medium", title="Phi-3-medium", repos=("microsoft/Phi-3-medium-4k-instruct",)),
    Family(name="phi-3.5-mini", title="Phi-3.5-mini", repos=("microsoft/Phi-3.5-mini-instruct",)),
    Family(name="phi-3.5-moe", title="Phi-3.5-MoE", repos=("microsoft/Phi-3.5-MoE-instruct",)),
    Family(name="phi-tiny-moe", title="Phi-tiny-MoE", repos=("microsoft/Phi-tiny-MoE-instruct",)),
    Family(name="phi-3-vision", title="Phi-3-vision", repos=("microsoft/Phi-3-vision-128k-instruct",), text_part=True),
    Family(name="phi-3.5-vision", title="Phi-3.5-vision", repos=("microsoft/Phi-3.5-vision-instruct",), text_part=True),
    Family(name="phi-4", title="Phi-4", repos=("microsoft/phi-4",)),
    Family(
        name="phi-3-mini-as-mistral",
        title="Phi-3-mini-as-Mistral",
        repos=("unsloth/Phi-3-mini-4k-instruct",),
        copied=True,
    ),
    Family(
        name="phi-3-medium-as-mistral",
        title="Phi-3-medium-as-Mistral",
        repos=("unsloth/Phi-3-medium-4k-instruct",),
        copied=True,
    ),
    Family(
        name="phi-3.5-mini-as-llama",
        title="Phi-3.5-mini-as-Llama",
        repos=("unsloth/Phi-3.5-mini-instruct",),
        copied=True,
    ),
    Family(name="phi-4-as-llama", title="Phi-4-as-Llama", repos=("unsloth/phi-4",), copied=True),
    Family(name="phi-4-mini", title="Phi-4-mini", repos=("microsoft/Phi-4-mini-instruct",)),
    Family(
        name="phi-4-reasoning",
        title="Phi-4-reasoning",
        repos=("microsoft/Phi-4-reasoning", "microsoft/Phi-4-reasoning-plus"),
    ),
    Family(
        name="phi-4-multimodal",
        title="Phi-4-multimodal",
        repos=("microsoft/Phi-4-multimodal-instruct",),
        text_part=True,
    ),
    Family(
        name="phi-4-reasoning-vision",
        title="Phi-4-reasoning-vision",
        repos=("microsoft/Phi-4-reasoning-vision-15B",),
        text_part=True,
    ),
)
FAMILIES = {family.name: family for family in _ROWS}

#: Not a Phi, but it has the architecture of one and was really trained. Not one of the families, which are gone over
#: together: its checkpoint is fifty times as large as theirs.
REAL = Family(name="smollm2", title="SmolLM2", repos=())

SAMPLES = {**FAMILIES, REAL.name: REAL}  #: all that `phi-bot sample` makes

DEFAULT = "phi-3.5-mini"  #: what `phi-bot sample` makes unless it is told otherwise
