"""PyTorch: quantized safetensors of compressed-tensors, which transformers, vLLM and SGLang load."""

from bot.formats import phi
from bot.formats.needs import LINUX, LINUX_ARM, MACOS, WINDOWS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour

# Those whose matrices transformers keeps as linear modules. It joins a mixture's experts to tensors of 3 dimensions.
_SUPPORTED = {"PhiForCausalLM": "Phi-1, 1.5 and 2", "Phi3ForCausalLM": "Phi-3, 3.5 and 4"}
_MIXTURES = ("PhiMoEForCausalLM", "PhimoeForCausalLM")
_ROPE_TYPES = ("default", "longrope")


class Torch:
    """One repo per precision, named as those of Red Hat AI are, which people look for."""

    name = "torch"
    title = "PyTorch"
    library = "transformers"
    version = 1
    packages = ("compressed-tensors", "transformers", "torch")
    suffixes = (".safetensors", ".json", ".jinja", ".txt", ".model")
    importance = None
    calibrated = ("int4",)
    mixed = ()
    reading = Reading(held=1.0, cached=0, states=20, unpacked=4.0)  # float32 beside the file: not measured

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:
        """Say in one line why this cannot be built, or return None if it can."""
        if phi.architecture(config) in _MIXTURES:
            return "compressed-tensors quantizes linear modules, and transformers has none for the experts of PhiMoE"
        reason = phi.unsupported(config, "compressed-tensors in transformers", _SUPPORTED)
        if reason is None and (kind := phi.rope_type(config)) not in _ROPE_TYPES:
            reason = f"transformers is not known to be right for rope scaling of type {kind!r} in a Phi model"
        return reason or _odd_groups(config, variant)

    def repo_suffix(self, variant: Variant) -> str:
        """Return ``-quantized.w4a16`` and the like."""
        return f"-quantized.{variant.short_name}"

    def path_in_repo(self, variant: Variant) -> str:  # noqa: ARG002
        """Return the top of the repo, where transformers and vLLM look."""
        return ""

    def needs(self, variant: Variant) -> Needs:
        """Return where PyTorch is: transformers computes the same on processors as on what such files are for."""
        return needs(variant, LINUX, LINUX_ARM, MACOS, WINDOWS)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:  # noqa: ARG002
        """Return nothing: it is the original's own runtime."""
        return ()

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:  # noqa: ARG002 - of every model
        """Return nothing: it is the original's own tokenizer."""
        return {}


def _odd_groups(config: dict[str, Json], variant: Variant) -> str | None:
    """Say in one line that rows do not divide into groups, or return None."""
    group = variant.options.get("group_size")
    if group is None:
        return None
    heads = phi.number(config, "num_attention_heads", 1)
    size = phi.number(config, "head_dim", 0)
    if (heads * size) % group:
        return f"groups are of {group} columns, and the heads of attention have {heads} * {size} = {heads * size}"
    return phi.odd_rows(config, group, f"{variant.name}, with groups of {group} columns,")


FORMAT = Torch()
