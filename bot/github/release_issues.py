"""The text of each release's issue on GitHub: the state of all its variants. Escaped, whatever it quotes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bot import github
from bot.catalogue import naming
from bot.config.places import AnnounceTable
from bot.errors import GithubError
from bot.github import ReleaseIssue
from bot.pages import templates
from bot.printable import one_line
from bot.progress import Display
from bot.records.artifacts import Report
from bot.records.failures import is_refusal
from bot.records.plans import Plan, PlannedVariant, SourceState, WatchedSources

_LONGEST_TEXT = 600  # characters of a message: a body holds 65,536, and all rows of the catalogue must fit


@dataclass(frozen=True, kw_only=True)
class VariantStanding:
    """The state of a variant of a release. ``url`` is where it is published, or ""; ``text`` may be a stranger's."""

    variant: str
    state: Literal["published", "outdated", "failed", "postponed", "to be built", "not possible"]
    url: str = ""
    text: str = ""

    @property
    def settled(self) -> bool:
        """True if nothing is left to do for it."""
        return self.state in ("published", "outdated", "not possible")


def release_issues(
    report: Report,
    todo: Plan,
    watched: WatchedSources,
    *,
    hub: str,
    status_page: str | None = None,
    template: str = naming.TEMPLATE,
) -> tuple[ReleaseIssue, ...]:
    """Return the issue of each release that this run did something for, or failed to.

    ``hub`` is the Hub's address, ``status_page`` that of the site that says how everything stands;
    ``template`` is how repos are named (``publish.repo``).

    A local folder has none, nor has what is private or gated: a repository on GitHub may be public.
    """
    touched = {b.build.source.label for p in report.publications for b in p.builds}
    touched |= {f.release for f in report.failures if not is_refusal(f)} | {job.release.label for job in todo.jobs}
    shut = {job.release.label for job in todo.jobs if job.release.private or job.release.gated}
    return tuple(
        _issue(
            sighting,
            sighting.content_digest,
            tuple(_standings(sighting, report, todo, hub, template)),
            hub,
            status_page,
        )
        for sighting in watched.sightings
        if sighting.label in touched - shut
        and sighting.content_digest is not None
        and not (sighting.private or sighting.gated or sighting.folder)
    )


def _issue(
    sighting: SourceState, digest: str, standings: tuple[VariantStanding, ...], hub: str, status_page: str | None
) -> ReleaseIssue:
    text = (
        templates.environment()
        .get_template("release.md.j2")
        .render(
            release=sighting,
            url=f"{hub}/{sighting.repo_id}",
            standings=standings,
            published=sum(s.state in ("published", "outdated") for s in standings),
            possible=sum(s.state != "not possible" for s in standings),
            most=_LONGEST_TEXT,
            status_page=status_page,
        )
    )
    name, commit = one_line(sighting.name)[:150], (sighting.commit or "")[:12]
    return ReleaseIssue(
        key=digest, title=f"{name} ({commit})", text=text.strip(), closed=all(s.settled for s in standings)
    )


def _standings(sighting: SourceState, report: Report, todo: Plan, hub: str, template: str) -> Iterator[VariantStanding]:
    """Return the state of each variant, in the order of their names. A later step overrules an earlier one."""
    found: dict[str, VariantStanding] = {}

    def add(standing: VariantStanding) -> None:
        found[standing.variant] = standing

    for planned in todo.done:
        if _is_of(planned, sighting, template):
            add(VariantStanding(variant=planned.variant.name, state="published", url=f"{hub}/{planned.repo_id}"))
    for postponed in todo.postponed:
        if postponed.release == sighting.label:
            name, url = postponed.planned.variant.name, f"{hub}/{postponed.planned.repo_id}"
            if postponed.why == "outdated":
                add(VariantStanding(variant=name, state="outdated", url=url, text=postponed.text))
            else:
                add(VariantStanding(variant=name, state="postponed", text=postponed.text))
    for job in todo.jobs:
        if job.release.label == sighting.label:
            for planned in job.variants:
                add(VariantStanding(variant=planned.variant.name, state="to be built"))
    for publication in report.publications:
        for proven in publication.builds:
            if proven.build.source.label == sighting.label:
                add(VariantStanding(variant=proven.build.variant.name, state="published", url=publication.url))
    for failure in (*todo.failures, *report.failures):
        if failure.release == sighting.label:
            state: Literal["not possible", "failed"] = "not possible" if is_refusal(failure) else "failed"
            text = failure.message if is_refusal(failure) else f"{failure.step}: {failure.message} {failure.hint}"
            add(VariantStanding(variant=failure.variant, state=state, text=text))
    return (found[name] for name in sorted(found))


def _is_of(planned: PlannedVariant, sighting: SourceState, template: str) -> bool:
    """Say whether a variant that is published already is one of this release: its repo is named after the model."""
    namespace = planned.repo_id.partition("/")[0]
    named = naming.repo_of(namespace, sighting.repo_id, planned.variant, template)
    return planned.repo_id.casefold() == named.casefold()


def check_announcing(settings: AnnounceTable, display: Display) -> None:
    """Make sure before work that issues can be written in the repository that ``settings`` names, if it names one.

    Raises GithubError without a token, or with one that is refused. A GitHub that does not answer now may do so later.
    """
    if settings.repository is None:
        return
    try:
        github.connect(settings.repository).check()
    except GithubError as error:
        if github.is_refusal(error):
            raise GithubError(
                f"announce.repository is {settings.repository}, and no issue could be written: {error.message}",
                hint=f"{error.hint} Or take announce.repository out of the configuration.",
            ) from error
        display.say(f"GitHub cannot be asked yet: {error.message}")
