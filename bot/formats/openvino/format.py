"""OpenVINO IR, for Intel's processors, GPUs and NPUs."""

from bot.formats import phi
from bot.formats.needs import LINUX, WINDOWS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour

# What the pinned optimum-intel exports as text models. It has Phi-3-vision and Phi-4-multimodal too, as several models
# each, which need code from their repos.
_SUPPORTED = {
    "PhiForCausalLM": "Phi-1, 1.5 and 2",
    "Phi3ForCausalLM": "Phi-3, 3.5 and 4",
    "PhiMoEForCausalLM": "Phi-3.5-MoE",
    "PhimoeForCausalLM": "Phi-3.5-MoE",  # as transformers saves it
}
_ROPE_TYPES = ("default", "longrope")


class OpenVino:
    """One repo per precision, as OpenVINO's own collection has."""

    name = "openvino"
    title = "OpenVINO"
    library = "openvino"
    version = 2
    packages = (
        "optimum-intel",
        "nncf",
        "openvino",
        "openvino-genai",
        "openvino-tokenizers",
        "transformers",
        "torch",
    )
    suffixes = (".xml", ".bin", ".json", ".jinja", ".txt", ".model")
    importance = None
    calibrated = ("openvino/int4",)  # one scale of a whole row is not known to the solver
    mixed = ("openvino/int4",)
    reading = Reading(held=1.0, cached=2, states=26)  # repacked as a whole

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:
        """Say in one line why optimum-intel cannot export this, or nncf not compress it, or return None if they can."""
        reason = phi.unsupported(config, "optimum-intel", _SUPPORTED)
        if reason is None and (kind := phi.rope_type(config)) not in _ROPE_TYPES:
            reason = f"optimum-intel's export is not known to be right for rope scaling of type {kind!r} in a Phi model"
        group = variant.options.get("group_size", -1)
        return reason or (phi.odd_rows(config, group, "nncf") if group > 0 else None)

    def repo_suffix(self, variant: Variant) -> str:
        """Return ``-int4-ov`` and the like."""
        return f"-{variant.short_name}-ov"

    def path_in_repo(self, variant: Variant) -> str:  # noqa: ARG002
        """Return the top of the repo, where openvino-genai looks."""
        return ""

    def needs(self, variant: Variant) -> Needs:
        """Return the platforms of Intel's processors, on which OpenVINO computes as it was measured."""
        return needs(variant, LINUX, WINDOWS)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:  # noqa: ARG002
        """Return nothing: on both sides of a LongRoPE switch the runtime predicts what the original does."""
        return ()

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:  # noqa: ARG002 - of every model
        """Name what openvino-tokenizers reads differently: it takes the name of a byte for the byte."""
        return {"names of bytes": "https://github.com/openvinotoolkit/openvino_tokenizers/pull/181"}


FORMAT = OpenVino()
