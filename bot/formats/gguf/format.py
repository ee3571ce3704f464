"""GGUF, for llama.cpp and everything built on it."""

from bot.formats import phi
from bot.formats.importance import Importance
from bot.formats.needs import LINUX, LINUX_ARM, MACOS, WINDOWS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour, Side

# What conversion/phi.py of the pinned llama.cpp registers as text models. Phi4ForCausalLMV is left out: it becomes two
# files, of which this would make only the one without vision.
_SUPPORTED = {
    "PhiForCausalLM": "Phi-1, 1.5 and 2",
    "Phi3ForCausalLM": "Phi-3, 3.5 and 4",
    "PhiMoEForCausalLM": "Phi-3.5-MoE",
}
_ROPE_TYPES = ("default", "longrope", "yarn")
_CL100K, _O200K = 100_000, 200_000  # tokens, about: no other tokenizers of a Phi have as many
_LLAMA_CPP = "https://github.com/ggml-org/llama.cpp"


class Gguf:
    """One repo per model holds all of its files, as llama.cpp's users expect.

    No rows are refused for their length: where those of a tensor do not divide into a k-quant's blocks of 256, the
    quantizer takes the next larger type with blocks of 32 for that tensor, and float16 where that does not fit.
    """

    name = "gguf"
    title = "GGUF"
    library = "gguf"
    version = 2
    packages = ("llama-cpp-python", "transformers", "torch")
    suffixes = (".gguf",)
    importance = Importance(
        command="importance",
        measured_on="q8_0",
        file="imatrix.gguf",
        tried=("int4", "int5", "int6"),  # llama.cpp takes no matrix for 8 bits and more; fewer always have one
    )
    calibrated = ("int2", "int3", "int4", "int5", "int6")
    mixed = ("gguf/q3_k_m", "gguf/q4_k_m", "gguf/q5_k_m")  # the mixes that people take; S and L stay what they say
    reading = Reading(held=1.0, cached=2, states=0)  # repacked matrices are not read again as they are in the file

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:  # noqa: ARG002
        """Say in one line why llama.cpp cannot build this, or return None if it can."""
        if phi.architecture(config) == "Phi4ForCausalLMV":
            return "llama.cpp makes two files of Phi4ForCausalLMV, and phi-bot builds text models only"
        reason = phi.unsupported(config, "llama.cpp", _SUPPORTED)
        if reason is None and (kind := phi.rope_type(config)) not in _ROPE_TYPES:
            reason = f"llama.cpp's converter does not know rope scaling of type {kind!r} in a Phi model"
        return reason or phi.odd_head(config, "llama.cpp's converter of Phi models")

    def repo_suffix(self, variant: Variant) -> str:  # noqa: ARG002
        """Return ``-GGUF``."""
        return "-GGUF"

    def path_in_repo(self, variant: Variant) -> str:  # noqa: ARG002
        """Return the top of the repo."""
        return ""

    def needs(self, variant: Variant) -> Needs:
        """Return every platform that llama.cpp is compiled on."""
        return needs(variant, LINUX, LINUX_ARM, MACOS, WINDOWS)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:
        """Name the graph that PhiMoE gets, and the effect of a context past the switch of LongRoPE on short texts.

        No gate applies to either. In the smallest context that holds a text, which is what the worker allocates,
        llama.cpp takes the factors that the original does on both sides of the switch. That it computes PhiMoE by
        Phi-3's graph is what the check "own weights" holds it to.
        """
        longrope = phi.is_longrope(config)
        sides: tuple[Side, ...] = ("short", "long") if longrope else ("short",)
        experts = [
            KnownBehaviour(
                name="llama.cpp computes Phi-3.5-MoE with Phi-3's norms, and weighs its experts by a softmax over two",
                side=side,
                reference=f"{_LLAMA_CPP}/blob/master/src/models/phi3.cpp",
            )
            for side in sides
            if config.get("model_type") == "phimoe"
        ]
        context = KnownBehaviour(
            name="llama.cpp chooses LongRoPE's factors by the context it allocates, not by the text in it",
            side="short",
            reference=f"{_LLAMA_CPP}/issues/24823",
            setting="a context past the switch",
        )
        return (*experts, *([context] if longrope else []))

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:
        """Name what llama.cpp reads differently with the tokenizers of Phi-4 (cl100k) and Phi-4-mini (o200k).

        A GGUF file does not say which tokens swallow the white space behind them; llama.cpp knows it of Phi-3's own.
        Its expression for o200k has no combining marks.
        """
        vocabulary, reference = phi.number(config, "vocab_size", 0), f"{_LLAMA_CPP}/blob/master/src/llama-vocab.cpp"
        kinds = {}
        if vocabulary >= _CL100K:
            kinds["white space after special tokens"] = reference
            kinds["white space that the model's own tokens drop before them"] = reference
            kinds["white space that the model's own tokens drop behind them"] = reference
        if vocabulary >= _O200K:
            kinds["letters with combining marks"] = f"{_LLAMA_CPP}/issues/27783"
        return kinds


FORMAT = Gguf()
