"""What a run did, as Markdown: for a terminal, a job's summary on GitHub, and a comment."""

from collections.abc import Sequence

from bot import templates
from bot.cards.figures import nats
from bot.records import Failure, Publication


def render_summary(publications: Sequence[Publication], failures: Sequence[Failure]) -> str:
    """Return what was published, what was there already, and what failed, with what to do about it."""
    template = templates.environment().get_template("summary.md.j2")
    text = template.render(
        new=[p for p in publications if p.created],
        unchanged=[p for p in publications if not p.created],
        failures=failures,
        nats=nats,
    )
    return f"{text.strip()}\n"
