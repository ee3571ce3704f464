"""Packages that only some commands need, and `pip install phi-bot` alone does not install."""

from importlib.util import find_spec

from bot.errors import NotReadyError

#: What the embedded Hub imports, of the packages that the extra "hub" in pyproject.toml names.
HUB_MODULES = ("cronsim", "jwt", "markdown_it", "nh3")


def require_hub() -> None:
    """Raise NotReadyError where packages of the embedded Hub are missing: now, not when a page first needs one."""
    missing = [name for name in HUB_MODULES if find_spec(name) is None]
    if missing:
        raise NotReadyError(
            f"the embedded Hub needs packages that are not installed: {', '.join(missing)}",
            hint="Install them with: pip install 'phi-bot[hub]'",
        )
