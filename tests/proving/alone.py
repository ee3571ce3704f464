"""An artifact that is verified alone."""

from bot.context import Context
from bot.proving.verify_artifact import Verifying
from bot.records.artifacts import Artifact


def verify(artifact: Artifact, context: Context) -> Artifact:
    """Measure one artifact. Raises what ``Verifying.verify`` does."""
    with Verifying((artifact,), context) as verifying:
        return verifying.verify(artifact)
