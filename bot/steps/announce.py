"""Announce: say what was published and what was not, where people look."""

import os
from pathlib import Path

from bot import github
from bot.context import Context
from bot.errors import PhiBotError
from bot.github.class_issues import KIND, OVER, class_issues
from bot.github.release_issues import release_issues
from bot.pages.summary import render_summary
from bot.records.artifacts import Report
from bot.records.plans import Plan, WatchedSources


def announce(
    report: Report, *, todo: Plan | None = None, watched: WatchedSources | None = None, status_page: str | None = None
) -> str:
    """Return the summary of a run as Markdown; on GitHub Actions, add it to the job's summary too.

    ``todo`` and ``watched`` are what was planned and seen, where that is known; ``status_page`` is an address.
    """
    text = render_summary(
        report,
        postponed=todo.postponed if todo else (),
        notices=watched.notices if watched else (),
        new_classes=watched.new_classes or () if watched else (),
        status_page=status_page,
    )
    summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary_file:
        with Path(summary_file).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return text


def announce_releases(report: Report, context: Context, *, todo: Plan, watched: WatchedSources) -> None:
    """Bring the issues of the releases up to date in the repository that ``announce`` names, if it names one.

    An error is told, and fails nothing: the files are published.
    """
    settings, display = context.config.announce, context.display
    if settings.repository is None:
        return
    try:
        wanted = release_issues(
            report,
            todo,
            watched,
            hub=context.hub.endpoint,
            status_page=settings.status_page,
            template=context.config.publish.repo,
        )
        new = class_issues(watched, hub=context.hub.endpoint)
        known = watched.new_classes is not None and bool(new or watched.notices)  # without news, no issue is over
        if wanted or known:
            over = (KIND, OVER) if known else None
            for address in github.connect(settings.repository).put((*wanted, *new), over=over):
                display.say(f"Announced in {address}")
    except PhiBotError as error:
        display.say(f"Not announced on GitHub: {error.message}. {error.hint}")
