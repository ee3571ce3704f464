"""Verify: artifacts in their own runtimes, against the original. One that fails here is not published."""

from collections.abc import Sequence

from bot.context import Context
from bot.proving.prove import verify_each
from bot.records.artifacts import Artifact, Report


def verify_all(artifacts: Sequence[Artifact], context: Context) -> Report:
    """Verify artifacts; one that fails holds up no other, nor does a damaged source. Raises CutShortError on Ctrl-C."""
    return verify_each(artifacts, context, lambda _: None)[0]
