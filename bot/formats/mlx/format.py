"""MLX, for Macs with Apple silicon."""

from bot.formats import phi
from bot.formats.needs import LINUX, LINUX_ARM, MACOS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour

# The models of the pinned mlx-lm. It has phi3small too, whose tokenizer exists only as code in the model's repo.
_SUPPORTED = {
    "PhiForCausalLM": "Phi-1, 1.5 and 2",
    "Phi3ForCausalLM": "Phi-3, 3.5 and 4",
    "PhiMoEForCausalLM": "Phi-3.5-MoE",
    "PhimoeForCausalLM": "Phi-3.5-MoE",  # as transformers saves it
}
_MODEL_TYPES = ("phi", "phi3", "phimoe")  # it finds its model by this, and not by the architecture
_ROPE_TYPES = ("default", "longrope", "linear")


class Mlx:
    """One repo per precision, as mlx-lm's users expect."""

    name = "mlx"
    title = "MLX"
    library = "mlx"
    version = 1
    packages = ("mlx", "mlx-lm", "transformers")
    suffixes = (".safetensors", ".json", ".jinja", ".txt", ".model")
    importance = None
    calibrated = ("int4",)
    mixed = ()
    reading = Reading(held=1.0, cached=2, states=11)  # texts are read in steps

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:  # noqa: ARG002
        """Say in one line why mlx-lm cannot build this, or return None if it can."""
        reason = phi.unsupported(config, "mlx-lm", _SUPPORTED)
        if reason is None and config.get("model_type") not in _MODEL_TYPES:
            reason = f"mlx-lm has no Phi model of the type {config.get('model_type')!r}"
        if reason is None and (kind := phi.rope_type(config)) not in _ROPE_TYPES:
            reason = f"mlx-lm leaves out rope scaling of type {kind!r} in a Phi model"
        return reason or phi.odd_head(config, "mlx-lm")

    def repo_suffix(self, variant: Variant) -> str:
        """Return ``-mlx-4bit`` and the like."""
        return f"-mlx-{variant.short_name}"

    def path_in_repo(self, variant: Variant) -> str:  # noqa: ARG002
        """Return the top of the repo, where mlx-lm looks."""
        return ""

    def needs(self, variant: Variant) -> Needs:
        """Return Macs first, which these files are for; MLX computes the same on processors."""
        return needs(variant, MACOS, LINUX, LINUX_ARM)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:
        """Name the long factors at every position, where a model has short ones too."""
        if not phi.is_longrope(config):
            return ()
        return (
            KnownBehaviour(
                name="mlx-lm uses the long LongRoPE factors at every position, before the switch too",
                side="short",
                reference="https://github.com/ml-explore/mlx-lm/pull/707",
            ),
        )

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:  # noqa: ARG002 - of every model
        """Return nothing: mlx-lm reads texts with transformers' own tokenizer."""
        return {}


FORMAT = Mlx()
