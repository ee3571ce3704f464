"""What building and verifying will take, before anything is downloaded: from the shape of a model alone.

Linear models (model.py), fitted to builds that were measured (benchmarks/estimates). Their errors are in
docs/estimates.md.
"""

from collections.abc import Sequence

from bot.estimates.model import expected, model
from bot.plans import Estimate
from bot.records import Variant
from bot.source.shape import Shape


def estimate(shape: Shape, variants: Sequence[Variant]) -> Estimate:
    """Return what building and verifying variants of one format takes, one after the other.

    Outputs and times pile up; scratch and memory are used by one at a time. The reference, with
    which they are compared, is computed once.
    """
    outputs, disks, seconds = [0.0], [0.0], [expected("reference", shape, None, "cpu_seconds")]
    memories = [expected("reference", shape, None, "memory")]
    for variant in variants:
        outputs.append(expected("build", shape, variant, "output"))
        memories.append(outputs[-1] + model("verify", variant.format, "memory").fixed)  # a runtime holds all of a file
        disks.append(expected("build", shape, variant, "disk"))
        for what in ("build", "verify"):
            memories.append(expected(what, shape, variant, "memory"))
            seconds.append(expected(what, shape, variant, "cpu_seconds"))
    return Estimate(
        output=round(sum(outputs)),
        disk=round(max(disks)),
        memory=round(max(memories)),
        cpu_seconds=round(sum(seconds), 1),
    )
