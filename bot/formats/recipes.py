"""Recipes: which variants are quantized by an importance matrix, and the build key of what a recipe makes."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from bot import texts, toolchains
from bot.formats.importance import Importance
from bot.formats.registry import all_formats
from bot.records.artifacts import Variant
from bot.records.digests import build_key, digest_of

TEXT = "training.txt"  #: of bot/texts: what matrices are measured on, and no file afterwards
_COLLECTING = 1  # raise it when bot/worker/collect.py leaves something else of the same inputs
_WEIGHING = 1  # … and when bot/worker/backward.py does
MEASURED = "measured"  #: of build.imatrix_from_4_bits, and the option of a recipe that is tried
PLAIN, CALIBRATED = "plain", "calibrated"  #: of build.quality; the latter is the option of a recipe, too
BY_COST = "by cost"  #: the option ``types`` of a recipe: a tensor has the type that is worth its bytes


def needs_matrix(variant: Variant) -> bool:
    """Say whether a variant is built with an importance matrix, whatever that does to it."""
    return bool(variant.options.get("imatrix")) and not is_tried(variant)


def takes_matrix(variant: Variant) -> bool:
    """Say whether an importance matrix is measured for a variant."""
    return needs_matrix(variant) or is_tried(variant)


def is_tried(variant: Variant) -> bool:
    """Say whether a variant is built without an importance matrix and with one, to keep the better file."""
    return variant.options.get("imatrix") == MEASURED


def with_trial(variant: Variant) -> Variant:
    """Return the recipe that tries an importance matrix where a row has none; a row that cannot gain, as it is."""
    offered = all_formats()[variant.format].importance
    if offered is None or variant.precision not in offered.tried or "imatrix" in variant.options:
        return variant
    return replace(variant, options=variant.options | {"imatrix": MEASURED})


def with_calibration(variant: Variant) -> Variant:
    """Return the calibrated recipe of a row; a row that its format rounds in one way only, as it is.

    It takes no importance matrix: the second moments say more than that. Where the row is a mix of types, and its
    format can choose them, they are chosen by what rounding to them costs.
    """
    if "quality" in variant.options:
        return variant
    form = all_formats()[variant.format]
    if not {variant.precision, variant.name} & set(form.calibrated):
        return variant
    rest = {name: option for name, option in variant.options.items() if name != "imatrix"}
    chosen = {"types": BY_COST} if variant.name in form.mixed else {}
    return replace(variant, options=rest | {"quality": CALIBRATED} | chosen)


def chooses_types(variant: Variant) -> bool:
    """Say whether the types of a variant's tensors are chosen by what rounding to them costs."""
    return bool(variant.options.get("types"))


def configured(variants: Iterable[Variant], imatrix_from_4_bits: str, quality: str = PLAIN) -> tuple[Variant, ...]:
    """Return rows of the catalogue as ``build.imatrix_from_4_bits`` and ``build.quality`` have them built."""
    rows = tuple(with_trial(v) if imatrix_from_4_bits == MEASURED else v for v in variants)
    return tuple(with_calibration(v) if quality == CALIBRATED else v for v in rows)


def possible(row: Variant) -> tuple[Variant, ...]:
    """Return all recipes that a row of the catalogue may be built by, as a configuration has it."""
    settings = [(imatrix, quality) for imatrix in ("", MEASURED) for quality in (PLAIN, CALIBRATED)]
    return tuple(recipe for setting in settings for recipe in configured([row], *setting))


def alternatives(variant: Variant) -> tuple[Variant, Variant]:
    """Return the two recipes of a variant that is tried: without an importance matrix, and with one.

    The first is called as the variant is, the second by a name of its own, so that one worker can build both.
    """
    plain = replace(variant, options={k: v for k, v in variant.options.items() if k != "imatrix"})
    return plain, replace(plain, name=f"{plain.name}-imatrix", options=plain.options | {"imatrix": True})


def key_of(content_digest: str, variant: Variant) -> str:
    """Return the build key of a variant as it is built here: by this lock, this format and this text."""
    form = all_formats()[variant.format]
    return build_key(
        content_digest=content_digest,
        variant=variant,
        toolchain_digest=toolchains.lock_digest(form.name),
        format_version=form.version,
        importance=importance_digest(form.name) if takes_matrix(variant) else None,
        calibration=_calibration_of(variant),
    )


def _calibration_of(variant: Variant) -> str | None:
    """Return the digest of what a variant is rounded for, and of what its types are chosen by."""
    if not variant.is_calibrated:
        return None
    moments = calibration_digest()
    return digest_of([moments, sensitivities_digest()]) if chooses_types(variant) else moments


def importance_of(name: str) -> Importance:
    """Return how a format measures importance matrices. Raises LookupError for one that measures none."""
    offered = all_formats()[name].importance
    if offered is None:
        raise LookupError(f"{name} measures no importance matrix, and none of its rows may take one")
    return offered


def measured_on(name: str) -> str:
    """Return the name of the variant on which the matrix of a format is measured."""
    return f"{name}/{importance_of(name).measured_on}"


def importance_digest(name: str) -> str:
    """Return the digest of what decides a format's importance matrix beside the release and the toolchain."""
    return digest_of([importance_of(name).version, text_digest()])


def calibration_digest() -> str:
    """Return the digest of what decides a release's second moments beside the release: the text, and what reads it."""
    return digest_of([_COLLECTING, text_digest(), toolchains.lock_digest("reference")])


def sensitivities_digest() -> str:
    """Return the digest of what decides, beside the release, what rounding costs: the text, and what reads it."""
    return digest_of([_WEIGHING, text_digest(), toolchains.lock_digest("reference")])


@cache  # planning asks for each variant of each release
def text_digest() -> str:
    """Return the sha256, in hex, of the text that matrices are measured on."""
    return hashlib.sha256(text().encode()).hexdigest()


def text() -> str:
    """Return the text that matrices are measured on."""
    return "\n\n".join(texts.training())
