"""Toy: the weights in half precision, for transformers."""

from bot.formats.needs import LINUX, LINUX_ARM, MACOS, Needs, needs
from bot.formats.reading import Reading
from bot.records.artifacts import Json, Variant
from bot.records.evidence import KnownBehaviour


class Toy:
    """One repo per model."""

    name = "toy"
    title = "Toy"
    library = "transformers"
    version = 1
    packages = ("transformers", "torch")
    suffixes = (".safetensors", ".json", ".jinja", ".txt", ".model")
    importance = None
    calibrated = ()
    mixed = ()
    reading = Reading(held=1.0, cached=2, states=0)

    def refusal(self, config: dict[str, Json], variant: Variant) -> str | None:
        """Say in one line why this cannot be built."""
        return None if config.get("model_type") == "phi3" else "Toy knows Phi-3 alone"

    def repo_suffix(self, variant: Variant) -> str:
        """Return ``-Toy``."""
        return "-Toy"

    def path_in_repo(self, variant: Variant) -> str:
        """Return a folder a variant."""
        return variant.short_name

    def needs(self, variant: Variant) -> Needs:
        """Return where PyTorch is."""
        return needs(variant, LINUX, LINUX_ARM, MACOS)

    def known_behaviours(self, config: dict[str, Json]) -> tuple[KnownBehaviour, ...]:
        """Return nothing: it is the original's own runtime."""
        return ()

    def read_differently(self, config: dict[str, Json]) -> dict[str, str]:
        """Return nothing."""
        return {}


FORMAT = Toy()
