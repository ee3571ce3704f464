"""Print, as JSON, what only a side's own code knows of itself: recipes, locks, gates.

Run as a script with the code of the side to be asked on its path (bot/compare/sides.py), in its folder. So both sides
are asked the same, and a side that is older than this file can be.
"""

import json
import sys
from pathlib import Path

from bot import catalogue, config, toolchains
from bot.errors import PhiBotError
from bot.formats import all_formats
from bot.records import Variant, build_key

_SAME = "0" * 64  # of a release and of a lock, which are no part of a recipe


def main() -> None:
    """Print the fingerprint, or ``{"problem": …}`` where the configuration is wrong."""
    try:
        settings = config.load(Path(config.FILE_NAME) if Path(config.FILE_NAME).exists() else None, environ={})
    except PhiBotError as error:
        print(json.dumps({"problem": error.message}))  # noqa: T201 - its output
        return
    forms = all_formats()
    variants = [
        {
            "name": v.name,
            "precision": v.precision,
            "default": v.default,
            "options": json.dumps(v.options | {"version": forms[v.format].version}, ensure_ascii=False),
            "recipe": build_key(
                content_digest=_SAME,
                variant=v,
                toolchain_digest=_SAME,
                format_version=forms[v.format].version,
                **_beside(v),
            ),
        }
        for v in catalogue.all_variants().values()
    ]
    precisions = dict.fromkeys(v.precision for v in catalogue.all_variants().values())
    found = {
        "variants": variants,
        "locks": {name: toolchains.lock_digest(name) for name in toolchains.names()},
        "formats": list(forms),
        "gates": {name: settings.gate(name) for name in precisions},
    }
    json.dump(found, sys.stdout)


def _beside(variant: Variant) -> dict[str, str]:
    """Return what decides a build beside its recipe: the text of its importance matrix."""
    try:
        from bot import recipes
    except ImportError:  # a side that is older
        return {}
    return {"importance": recipes.importance_digest()} if recipes.needed(variant) else {}


if __name__ == "__main__":
    main()
