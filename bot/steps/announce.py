"""Announce: say what was published and what was not, where people look."""

import os
from pathlib import Path

from bot.records import Report
from bot.summary import render_summary


def announce(report: Report) -> str:
    """Return the summary of a run as Markdown; on GitHub Actions, add it to the job's summary too."""
    text = render_summary(report.publications, report.failures)
    summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary_file:
        with Path(summary_file).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return text
