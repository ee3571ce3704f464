"""Estimates of building and verifying before anything is downloaded, from the shape of a model alone.

Linear models (estimate_models.py), fitted to builds that were measured (benchmarks/estimates). Their errors are in
docs/estimates.md.
"""

from collections.abc import Sequence

from bot import catalogue
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.machines.estimate_models import expected, fixed
from bot.records.artifacts import Json, Variant
from bot.records.plans import Estimate
from bot.source.shape import Shape


def estimate(shape: Shape, variants: Sequence[Variant], config: dict[str, Json] | None = None) -> Estimate:
    """Return what building and verifying variants of one format takes, one after the other.

    ``config`` is the model's config.json, which tells what the longest text takes; without it, texts count nothing.

    Outputs and times pile up; scratch and memory are used by one at a time. The reference, with
    which they are compared, is computed once. So is an importance matrix: by running a model of 8 bits, which is gone
    before the first output. A variant that tries a matrix is built and verified twice; both files are there together.
    """
    tried = [v for v in variants if recipes.is_tried(v)]
    taking = {v.format for v in variants if recipes.takes_matrix(v)}
    passing = [catalogue.all_variants()[recipes.measured_on(name)] for name in taking]
    disks, seconds = [0.0], [expected("reference", shape, None, "cpu_seconds")]
    memories = [expected("reference", shape, None, "memory")]
    # A matrix takes some 10,000 tokens: as many as verifying a model with LongRoPE reads, more than any other one.
    for variant in (*variants, *tried, *passing):
        memories.append(fixed("verify", variant, "memory") + _reading(shape, variant, config or {}))
        disks.append(expected("build", shape, variant, "disk"))
        for what in ("build", "verify"):
            memories.append(expected(what, shape, variant, "memory"))
            seconds.append(expected(what, shape, variant, "cpu_seconds"))
    output, twice, once = (_outputs(shape, some) for some in (variants, tried, passing))
    return Estimate(
        output=round(output),
        disk=round(max(max(disks) + twice, once - output)),
        memory=round(max(memories)),
        cpu_seconds=round(sum(seconds), 1),
    )


def _reading(shape: Shape, variant: Variant, config: dict[str, Json]) -> float:
    """Return the bytes that a runtime takes for the file and the longest text; of an unknown format, the most."""
    known, size = all_formats(), expected("build", shape, variant, "output")
    formats = [known[variant.format]] if variant.format in known else known.values()
    return max(form.reading.memory(config, size, shape.count) for form in formats)


def _outputs(shape: Shape, variants: Sequence[Variant]) -> float:
    return sum(expected("build", shape, v, "output") for v in variants)
