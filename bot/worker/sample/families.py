"""The families of samples: one row says what sets a family apart. Names are those of bot/catalogue/families.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.worker.sample import byte_level
from bot.worker.sample import config as sample_config
from bot.worker.sample import tokenizer as sample_tokenizer
from bot.worker.sample.byte_level import Kind
from bot.worker.sample.config import SWITCH, WINDOW, Config, generation
from bot.worker.sample.tokens import ID

_CHAT = """\
<|system|>
You are a helpful assistant.<|end|>
<|user|>
What is 12 plus 7?<|end|>
<|assistant|>"""
_TURNS = "<|im_start|>user<|im_sep|>What is 12 plus 7?<|im_end|><|im_start|>assistant<|im_sep|>"
_IN_A_LINE = "<|system|>You are a helpful assistant.<|end|><|user|>What is 12 plus 7?<|end|><|assistant|>"

_LONGROPE = f"""\
It has what its large relatives have: LongRoPE, which switches from its short to its long factors past {SWITCH}
positions, {{tokenizer}}, a chat format, and a list of tokens that end an answer."""
_PIECES = "a SentencePiece tokenizer with byte fallback"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The parts of a family's sample.

    ``write_tokenizer`` takes texts to learn from, the number of the model's positions, and a folder. ``thought`` is
    what the assistant writes before each answer. A model with pictures or speech is trained as the Phi-3 in it, whose
    config is ``config``; then it gets its towers (see towers.py), and its config is ``around``.
    """

    title: str
    features: str
    config: Config
    generation_config: Config
    write_tokenizer: Callable[[Sequence[str], int, Path], None]
    chat: str | None = _CHAT
    thought: str = ""
    steps: int = 100  #: of training
    conversations: int = 200  #: to train on; more of them teach it to end its answers, and less of the other texts
    around: Config | None = None

    @property
    def switch(self) -> int | None:
        """The positions past which LongRoPE takes its long factors."""
        rope = self.config.get("rope_scaling")
        return self.config["original_max_position_embeddings"] if rope else None


def _byte_level(kind: Kind) -> Callable[[Sequence[str], int, Path], None]:
    return lambda _documents, longest, out: byte_level.write(kind, longest, out)


_COPIED = """\
It has what {original} has, saved as Unsloth saves it: as a {name}, whose queries, keys and values are three
matrices, and whose gate and up are two"""
_AROUND = """
It has the config of its large relative, a trained text part, and towers of one layer with random weights under their
true names: {towers}. No library reads it as a whole without the code in its repo, and this one has none."""
_END, _TURN_END, _ASSISTANT = ID["<|endoftext|>"], ID["<|end|>"], ID["<|assistant|>"]
_phi_3 = partial(generation, begin=1, pad=_END, _from_model_config=True)

FAMILIES = {
    "phi-2": Sample(
        title="Phi-2",
        features="""\
It has what its large relative has: attention and MLP side by side, biases, half of each head turned by its position,
weights in float16, and GPT-2's tokenizer with runs of spaces added.""",
        config=sample_config.phi_2(),
        generation_config=generation(50256, begin=50256, pad=None, version="4.37.0.dev0", _from_model_config=True),
        write_tokenizer=_byte_level(byte_level.PHI_2),
        chat=None,
    ),
    "phi-3-mini-4k": Sample(
        title="Phi-3-mini-4k",
        features=f"""\
It has what its large relative has: a sliding window of {WINDOW} positions in every layer, a SentencePiece tokenizer
with byte fallback, a chat format, and a list of tokens that end an answer.""",
        config=sample_config.phi_3_mini_4k(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.39.3"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-3-mini-128k": Sample(
        title="Phi-3-mini-128k",
        features=_LONGROPE.format(tokenizer=_PIECES),
        config=sample_config.phi_3_mini_128k(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.39.3"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-3-medium": Sample(
        title="Phi-3-medium",
        features=f"""\
It has what its large relative has: four heads of attention that share their keys and values, a sliding window of
{WINDOW} positions in every layer, a SentencePiece tokenizer with byte fallback, a chat format, and a list of tokens
that end an answer.""",
        config=sample_config.phi_3_medium(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.39.3"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-3.5-mini": Sample(
        title="Phi-3.5",
        features=_LONGROPE.format(tokenizer=_PIECES),
        config=sample_config.phi_3_5_mini(),
        generation_config=_phi_3([_TURN_END, _ASSISTANT, _END], version="4.43.3"),
        write_tokenizer=sample_tokenizer.write,
        steps=140,
    ),
    "phi-3.5-moe": Sample(
        title="Phi-3.5-MoE",
        features=f"""\
It has what its large relative has: experts, of which two work on each token, biases in attention and head, LongRoPE,
which switches from its short to its long factors past {SWITCH} positions, a SentencePiece tokenizer with byte fallback,
a chat format, and a list of tokens that end an answer.""",
        config=sample_config.phi_3_5_moe(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.43.3"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-tiny-moe": Sample(
        title="Phi-tiny-MoE",
        features=f"""\
It has what its large relative has: slim experts, of which two work on each token, heads that are narrower together than
a row, biases in attention and head, a sliding window of {WINDOW} positions, a SentencePiece tokenizer with byte
fallback, a chat format, and a list of tokens that end an answer.""",
        config=sample_config.phi_tiny_moe(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.43.3"),
        write_tokenizer=sample_tokenizer.write,
        steps=40,
    ),
    "phi-3-vision": Sample(
        title="Phi-3-vision",
        features=_LONGROPE.format(tokenizer=_PIECES) + _AROUND.format(towers="CLIP's, and a projection"),
        config=sample_config.text_of(sample_config.phi_3_vision()),
        around=sample_config.phi_3_vision(),
        generation_config=_phi_3([_TURN_END, _ASSISTANT, _END], version="4.38.1"),
        write_tokenizer=sample_tokenizer.write_with_images,
    ),
    "phi-3.5-vision": Sample(
        title="Phi-3.5-vision",
        features=_LONGROPE.format(tokenizer=_PIECES) + _AROUND.format(towers="CLIP's, and a projection"),
        config=sample_config.text_of(sample_config.phi_3_5_vision()),
        around=sample_config.phi_3_5_vision(),
        generation_config=_phi_3([_TURN_END, _ASSISTANT, _END], version="4.38.1"),
        write_tokenizer=sample_tokenizer.write_with_images,
    ),
    "phi-4": Sample(
        title="Phi-4",
        features="""\
It has what its large relative has: four heads of attention that share their keys and values, the tokenizer cl100k with
Phi-4's special tokens, a chat format without line breaks, and a token that ends an answer.""",
        config=sample_config.phi_4(),
        generation_config=generation(100265, begin=100257, pad=100349, version="4.47.0", _from_model_config=True),
        write_tokenizer=_byte_level(byte_level.PHI_4),
        chat=_TURNS,
        conversations=700,
    ),
    "phi-3-mini-as-mistral": Sample(
        title="Phi-3-mini-as-Mistral",
        features=_COPIED.format(original="Phi-3-mini-4k", name="Mistral")
        + f".\nIts sliding window is {WINDOW + 1} positions long.",
        config=sample_config.phi_3_mini_as_mistral(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.39.3"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-3-medium-as-mistral": Sample(
        title="Phi-3-medium-as-Mistral",
        features=_COPIED.format(original="Phi-3-medium", name="Mistral")
        + f".\nIts sliding window is {WINDOW + 1} positions long.",
        config=sample_config.phi_3_medium_as_mistral(),
        generation_config=_phi_3([_END, _ASSISTANT, _TURN_END], version="4.41.0"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-3.5-mini-as-llama": Sample(
        title="Phi-3.5-mini-as-Llama",
        features=_COPIED.format(original="Phi-3.5-mini", name="Llama") + ".\nLongRoPE is left out, as it is there.",
        config=sample_config.phi_3_5_mini_as_llama(),
        generation_config=_phi_3([_TURN_END, _ASSISTANT, _END], version="4.44.2"),
        write_tokenizer=sample_tokenizer.write,
    ),
    "phi-4-as-llama": Sample(
        title="Phi-4-as-Llama",
        features=_COPIED.format(original="Phi-4", name="Llama") + ".",
        config=sample_config.phi_4_as_llama(),
        generation_config=generation(100265, begin=100257, pad=100351, version="4.47.1", _from_model_config=True),
        write_tokenizer=_byte_level(byte_level.PHI_4),
        chat=_TURNS,
        conversations=700,
    ),
    "phi-4-mini": Sample(
        title="Phi-4-mini",
        features=_LONGROPE.format(
            tokenizer="three quarters\nof each head turned, tied embeddings, the tokenizer o200k"
        ),
        config=sample_config.phi_4_mini(),
        generation_config=generation(
            [200020, 199999], begin=199999, pad=199999, version="4.45.0", _from_model_config=True
        ),
        write_tokenizer=_byte_level(byte_level.PHI_4_MINI),
        chat=_IN_A_LINE,
    ),
    "phi-4-reasoning": Sample(
        title="Phi-4-reasoning",
        features="""\
It has what its large relative has: a system message of its own in the chat template, thoughts between `<think>` and
`</think>` before each answer, the tokenizer cl100k with Phi-4's special tokens, and a token that ends an answer.""",
        config=sample_config.phi_4_reasoning(),
        generation_config=generation(
            100265,
            begin=100257,
            pad=100349,
            version="4.51.1",
            do_sample=True,
            temperature=0.8,
            top_k=50,
            top_p=0.95,
        ),
        write_tokenizer=_byte_level(byte_level.PHI_4_REASONING),
        chat=_TURNS,
        thought="<think>Short and simple.</think>",
    ),
    "phi-4-multimodal": Sample(
        title="Phi-4-multimodal",
        features=_LONGROPE.format(tokenizer="three quarters\nof each head turned, tied embeddings, the tokenizer o200k")
        + _AROUND.format(towers="SigLIP's and a conformer's, projections, and an adapter for each on every matrix"),
        config=sample_config.text_of(sample_config.phi_4_multimodal()),
        around=sample_config.phi_4_multimodal(),
        generation_config=generation(
            [200020, 199999], begin=199999, pad=199999, version="4.48.2", _from_model_config=True
        ),
        write_tokenizer=_byte_level(byte_level.PHI_4_MULTIMODAL),
        chat=_IN_A_LINE,
    ),
    "phi-4-reasoning-vision": Sample(
        title="Phi-4-reasoning-vision",
        features="""\
It has what its large relative has: a system message of its own in the chat template, thoughts between `<think>` and
`</think>` before each answer, the tokenizer cl100k with Phi-4's special tokens, and a token that ends an answer."""
        + _AROUND.format(towers="SigLIP 2's, and a projection"),
        config=sample_config.text_of(sample_config.phi_4_reasoning_vision()),
        around=sample_config.phi_4_reasoning_vision(),
        generation_config=generation(100265, begin=100257, pad=100349, version="4.57.1", _from_model_config=True),
        write_tokenizer=_byte_level(byte_level.PHI_4_REASONING),
        chat=_TURNS,
        thought="<think>Short and simple.</think>",
    ),
}
