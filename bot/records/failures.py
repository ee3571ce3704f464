"""Failures: an error of one variant as a record, with which a run goes on."""

from collections.abc import Iterable, Sequence
from typing import Literal

from bot.errors import IncompleteError, Interrupted, PhiBotError, UnsupportedArchitectureError
from bot.records.artifacts import Failure, Report

Step = Literal["plan", "build", "verify", "stage", "publish"]


class CutShortError(KeyboardInterrupt):
    """Ctrl-C, or the time limit of a runner, in the middle of a step: ``report`` has what was whole by then."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def failure(release: str, variant: str, step: Step, error: PhiBotError) -> Failure:
    """Return what is kept of an error."""
    return Failure(
        release=release,
        variant=variant,
        step=step,
        message=error.message,
        hint=error.hint,
        exit_code=error.exit_code,
    )


def merge_reports(one: Report, other: Report) -> Report:
    """Return what two reports say."""
    return Report(
        artifacts=one.artifacts + other.artifacts,
        staged=one.staged + other.staged,
        proposals=one.proposals + other.proposals,
        publications=one.publications + other.publications,
        failures=one.failures + other.failures,
    )


def interruption() -> Interrupted:
    """Return what a variant failed of that Ctrl-C ended on its way."""
    return Interrupted("it was interrupted", hint="Run the same command again to go on.")


def cut_short(done: Report, error: KeyboardInterrupt, wanted: Iterable[tuple[str, str]], step: Step) -> CutShortError:
    """Return the interruption of a step that has ``done`` so much, and more in the step within it that ended first.

    Variants that are ``wanted`` (each after the label of its release), and in neither, were not done.
    """
    report = merge_reports(done, error.report) if isinstance(error, CutShortError) else done
    known = {(f.release, f.variant) for f in report.failures}
    builds = [a.build for a in report.artifacts] + [s.build for s in report.staged]
    builds += [b.build for p in report.publications for b in p.builds]
    builds += [b.build for p in report.proposals for b in p.builds]
    known |= {(build.source.label, build.variant.name) for build in builds}
    why = interruption()
    left = tuple(failure(*one, step, why) for one in wanted if one not in known)
    return CutShortError(merge_reports(report, Report(failures=left)))


def exit_code(failures: Sequence[Failure], *, anything_done: bool) -> int:
    """Return the exit code of a run: 0 without failures; the failures' own where nothing came through and all share it.

    Any other mixture is IncompleteError's.
    """
    if not failures:
        return 0
    codes = {f.exit_code for f in failures}
    if len(codes) == 1 and not anything_done:
        return codes.pop()
    return IncompleteError.exit_code


def is_refusal(failure: Failure) -> bool:
    """Say whether a toolchain, or this machine, cannot do it: no fault of anybody's."""
    return failure.exit_code == UnsupportedArchitectureError.exit_code
