"""Build: jobs, in their toolchains. Each artifact is in the working folder, complete or not at all."""

from collections.abc import Sequence

from bot.context import Context
from bot.errors import SourceError
from bot.proving.build_job import partial_report
from bot.proving.build_together import build_together
from bot.proving.job_disk import streaming
from bot.proving.prove import asked_for, take_or_build
from bot.records.artifacts import Report
from bot.records.failures import cut_short, merge_reports
from bot.records.plans import Job


def build_all(jobs: Sequence[Job], context: Context, *, stock: bool = False) -> Report:
    """Build jobs, one after the other. One that fails holds up no other. Raises CutShortError on Ctrl-C.

    With ``stock`` the toolchains work their own way (see ``build_job``).
    """
    done = Report()
    try:
        built = {} if stock else build_together(streaming(jobs, context), context)
    except KeyboardInterrupt as error:
        raise cut_short(done, error, asked_for(jobs), "build") from error
    for job in jobs:
        try:
            done = merge_reports(done, take_or_build(job, context, stock=stock, built=built))
        except SourceError as error:
            done = merge_reports(done, partial_report(job, context.workspace, error))
        except KeyboardInterrupt as error:
            raise cut_short(done, error, asked_for(jobs), "build") from error
    return done
