"""What a run did, as Markdown: for a terminal, a job's summary on GitHub, and a comment."""

from collections.abc import Sequence

from bot import templates
from bot.cards.figures import nats
from bot.plans import Notice, Postponed
from bot.records import Failure, Publication

LARGEST = 1_000_000  # bytes: GitHub takes 1 MiB from a step
_MOST_ROWS = (2000, 500, 100, 20)  # of a table: the most with which all of it has room
_LONGEST_TEXT = 1000  # characters of a message


def render_summary(
    publications: Sequence[Publication],
    failures: Sequence[Failure],
    *,
    postponed: Sequence[Postponed] = (),
    notices: Sequence[Notice] = (),
    status_page: str | None = None,
) -> str:
    """Return what was published, what was there already, what failed with what to do about it, and what is put off.

    ``notices`` are what is new about the models; ``status_page`` is its address. Rows of tables are left out, and
    counted, where the whole would be larger than a job's summary may be.
    """
    template = templates.environment().get_template("summary.md.j2")
    for most in _MOST_ROWS:
        text = template.render(
            new=[p for p in publications if p.created],
            unchanged=[p for p in publications if not p.created],
            failures=failures,
            postponed=postponed,
            notices=notices,
            status_page=status_page,
            nats=nats,
            most=most,
            longest=_LONGEST_TEXT,
        )
        if len(text.encode(errors="replace")) <= LARGEST:
            break
    return f"{text.strip()}\n"
