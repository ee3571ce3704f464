"""The description of a side: recipes, locks, gates, and its table of rooms."""

from bot import catalogue, toolchains
from bot.config import Config
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.printable import json_text
from bot.reconvert.records import Description, RecipePrint
from bot.reconvert.rooms import own_rooms
from bot.records.artifacts import Variant
from bot.records.digests import build_key

VERSION = 1  # of what `phi-bot describe` prints
_SIZE = 10**9  # bytes: at one size a row says what of it goes into build keys
_SAME = "0" * 64  # of a release and of a lock, which are not part of a recipe


def describe(config: Config) -> Description:
    """Return what this code, with a configuration, is as far as published files depend on it. Makes no request."""
    rows = catalogue.all_variants().values()
    sized = [row.of(_SIZE) for row in catalogue.sized_rows().values()]  # whose precision depends on the model
    precisions = dict.fromkeys(v.precision for v in rows)
    return Description(
        version=VERSION,
        variants=tuple(map(_recipe, (*rows, *sized))),
        formats=tuple(all_formats()),
        locks={name: toolchains.lock_digest(name) for name in toolchains.names()},
        gates={name: config.times(name) for name in precisions},
        rooms=own_rooms(),
    )


def _recipe(variant: Variant) -> RecipePrint:
    form, importance = all_formats()[variant.format], recipes.needs_matrix(variant)
    return RecipePrint(
        name=variant.name,
        precision=variant.precision,
        default=variant.default,
        options=json_text(variant.options | {"version": form.version}),
        recipe=build_key(
            content_digest=_SAME,
            variant=variant,
            toolchain_digest=_SAME,
            format_version=form.version,
            importance=recipes.importance_digest(form.name) if importance else None,
        ),
        importance=importance,
    )
