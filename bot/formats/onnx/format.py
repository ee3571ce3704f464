"""ONNX, for ONNX Runtime GenAI on processors, GPUs and in browsers."""

from bot.formats import phi
from bot.formats.needs import LINUX, LINUX_ARM, MACOS, WINDOWS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour

# What the pinned builder makes and transformers reads without code from the model's repo. Phi-3-small, Phi-3-vision and
# Phi-4-multimodal need such code; of the latter two it would make only the text part.
_SUPPORTED = {"PhiForCausalLM": "Phi-1, 1.5 and 2", "Phi3ForCausalLM": "Phi-3, 3.5 and 4"}
_MIXTURES = ("PhiMoEForCausalLM", "PhimoeForCausalLM")
_ROPE_TYPES = ("default", "longrope")
_ROTATED = {"PhiForCausalLM": 0.5}  # the part of a head that is rotated, where a config does not say
_PAIRED_BLOCKS = 64  # k_quant packs the zero points of two blocks of 32 weights into a byte


class Onnx:
    """One repo per model, with a folder per target, as Microsoft's own conversions have."""

    name = "onnx"
    title = "ONNX"
    library = "onnxruntime-genai"
    version = 2
    packages = ("onnxruntime-genai", "onnxruntime", "onnx-ir", "transformers", "torch")
    suffixes = (".onnx", ".onnx.data", ".json", ".jinja", ".txt", ".model")
    importance = None
    calibrated = ("int4",)  # but the row for TensorRT, whose options say "plain"
    mixed = ("onnx/cpu-int4",)  # GPUs have kernels for blocks of few sizes
    reading = Reading(held=1.2, cached=0, states=28)  # kernels for 4 bits keep scales twice, and a sum of each block

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:
        """Say in one line why onnxruntime-genai's builder cannot build this, or return None if it can."""
        if phi.architecture(config) in _MIXTURES:
            return _mixture(config, variant)
        reason = phi.unsupported(config, "onnxruntime-genai's builder", _SUPPORTED)
        if reason is None and (kind := phi.rope_type(config)) not in _ROPE_TYPES:
            reason = f"onnxruntime-genai's builder does not know rope scaling of type {kind!r} in a Phi model"
        return reason or _odd_switch(config) or _odd_heads(config) or _odd_rows(config, variant)

    def repo_suffix(self, variant: Variant) -> str:  # noqa: ARG002
        """Return ``-onnx``."""
        return "-onnx"

    def path_in_repo(self, variant: Variant) -> str:
        """Return the target's folder: ``cpu-int4``."""
        return variant.short_name

    def needs(self, variant: Variant) -> Needs:
        """Return what its target needs; the graph of files for a GPU is proven on a processor (devices.toml)."""
        return needs(variant, LINUX, LINUX_ARM, MACOS, WINDOWS)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:  # noqa: ARG002
        """Return nothing: on both sides of a LongRoPE switch the runtime predicts what the original does."""
        return ()

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:  # noqa: ARG002 - of every model
        """Name what the tokenizers of onnxruntime-extensions read or decode differently, and its templates write so.

        It hands a template each tool without the object around it that says that it is a function.
        """
        return {
            "NUL": "https://github.com/microsoft/onnxruntime-genai/blob/main/src/ort_genai_c.h",
            "noncharacters": "https://github.com/microsoft/onnxruntime-extensions",
            "the sign that SentencePiece writes spaces with": "https://github.com/microsoft/onnxruntime-extensions",
            "tools in a conversation": "https://github.com/microsoft/onnxruntime-extensions/issues/1117",
            "a space before a number in other signs than 0 to 9, where digits are cut one by one": (
                "https://github.com/microsoft/onnxruntime-extensions"
            ),
            "white space that the model's own tokens drop before them": "https://github.com/microsoft/onnxruntime-extensions",
        }


def _mixture(config: dict[str, Json], variant: Variant) -> str:
    """Say what keeps Phi's mixture of experts from being built; a test in the toolchain asks the runtime for it.

    The builder has a class for the one with LongRoPE alone, which makes QMoE of 4 bits for CUDA, whatever is asked for.
    """
    if not phi.is_longrope(config):
        how = "only with LongRoPE, which this one does not use"
    elif variant.target == "cuda":
        how = "with QMoE for CUDA, which phi-bot has not held against the original yet"
    else:
        how = "for CUDA alone: onnxruntime's QMoE for processors takes no third matrix of an expert, and no SparseMixer"
    return f"onnxruntime-genai's builder makes Phi's mixture of experts {how}"


def _odd_switch(config: dict[str, Json]) -> str | None:
    """The builder knows LongRoPE by two of a model's lengths, which may be equal where nothing ever switches."""
    switch, longest = config.get("original_max_position_embeddings"), config.get("max_position_embeddings")
    if switch is None or switch != longest or not phi.is_longrope(config):
        return None
    return (
        "onnxruntime-genai's builder makes LongRoPE only where max_position_embeddings is not "
        f"original_max_position_embeddings, and both are {switch}"
    )


def _odd_heads(config: dict[str, Json]) -> str | None:
    """GroupQueryAttention wants rows of 8 in its rotary tables; a row holds half of the dimensions that it rotates."""
    heads = phi.number(config, "num_attention_heads", 1)
    size = phi.number(config, "head_dim", phi.number(config, "hidden_size", 16 * heads) // heads)
    given = config.get("partial_rotary_factor", phi.rope_scaling(config).get("partial_rotary_factor"))
    part = given if isinstance(given, int | float) and 0 < given <= 1 else _ROTATED.get(phi.architecture(config), 1.0)
    rotated = int(size * part)
    if rotated % 16:
        return f"onnxruntime's GroupQueryAttention rotates a multiple of 16 dimensions of a head, not {rotated}"
    return None


def _odd_rows(config: dict[str, Json], variant: Variant) -> str | None:
    extra = variant.options.get("extra_options", {})
    if extra.get("algo_config") != "k_quant":
        return None
    return phi.odd_rows(config, _PAIRED_BLOCKS, "onnxruntime's k_quant")


FORMAT = Onnx()
