"""Due: which variants of what was sighted are to be built, by what is published and remembered. Reads no release."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import bot
from bot.catalogue import naming
from bot.errors import (
    ConfigError,
    ForeignRepoError,
    HubUnreachableError,
    OtherSourceError,
    PhiBotError,
    UnsupportedArchitectureError,
)
from bot.formats import recipes
from bot.formats.registry import all_formats
from bot.hub.namespace import Namespace
from bot.publishing.staging import folder_name
from bot.records.artifacts import Failure, Variant
from bot.records.failures import failure
from bot.records.plans import PlannedVariant, Postponed, PublishedRepo, SourceState
from bot.state.memory import Memory

NOTHING = Namespace(shelved={}, foreign=frozenset())


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """The inputs of a plan, beside releases and variants.

    ``namespace`` is where it will be published, None where nothing is; ``there`` what that holds, ``staged`` the
    folders of its staging repo, ``template`` how repos are named (``publish.repo``). ``outdated`` is the policy for
    publications of an older toolchain or recipe: ``now``, ``slowly`` or ``never``. ``here`` says whether the machine at
    hand does the work, and so has to have what that needs.
    """

    namespace: str | None = None
    there: Namespace = NOTHING
    staged: frozenset[str] = frozenset()
    memory: Memory = field(default_factory=Memory)
    outdated: str = "now"
    here: bool = True
    now: dt.datetime
    template: str = naming.TEMPLATE


@dataclass(frozen=True, kw_only=True)
class Due:
    """The variants of a source to build, if its release turns out to be fit for it."""

    sighting: SourceState
    planned: tuple[PlannedVariant, ...]


@dataclass(kw_only=True)
class DueWork:
    """The work according to lists and memory: due, done, postponed and impossible variants."""

    due: list[Due] = field(default_factory=list)
    done: list[PlannedVariant] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)


def due_work(
    sightings: Sequence[SourceState], variants: Sequence[Variant], *, current: naming.Current, known: PlanInputs
) -> DueWork:
    """Return the state of each variant of each source.

    A repo is one source's: that of what it holds, or, where it holds nothing yet, that of the first source here which
    has something to put into it. A variant of any other source is not built for it: that is a Failure.
    """
    found = DueWork()
    claims: dict[str, str] = {}  # the labels of sources, by the repos that they will be published in
    for sighting in sightings:
        if sighting.content_digest is None:
            continue
        todo: list[PlannedVariant] = []
        for variant in variants:
            planned = planned_variant(
                sighting.repo_id, sighting.content_digest, variant, known.namespace, known.template
            )
            shelf = known.there.shelf(planned.repo_id)
            if shelf is not None:
                planned = replace(planned, repo_id=shelf.repo_id)  # as the Hub spells it
            try:
                reason = _reason(planned, shelf, sighting.content_digest, known)
                if reason is not None:
                    _check_place(planned, shelf, sighting, claims, current, known)
            except HubUnreachableError:
                raise  # the others would fail alike
            except PhiBotError as error:
                found.failures.append(failure(sighting.label, variant.name, "plan", error))
                continue
            if reason is None:
                found.done.append(planned)
            elif refused := known.memory.refusal(planned.build_key, bot_version=bot.__version__):
                found.failures.append(refusal(sighting.label, variant, refused))
            else:
                claims.setdefault(planned.repo_id.casefold(), sighting.label)
                planned = replace(planned, reason=reason)
                if (waits := _waits(planned, sighting, known)) is not None:
                    found.postponed.append(waits)
                else:
                    todo.append(planned)
        if todo:
            found.due.append(Due(sighting=sighting, planned=tuple(todo)))
    return found


def planned_variant(
    source: str, content_digest: str, variant: Variant, namespace: str | None, template: str = naming.TEMPLATE
) -> PlannedVariant:
    """Return a variant of a source, a repo id, with its build key and where it goes."""
    return PlannedVariant(
        variant=variant,
        build_key=recipes.key_of(content_digest, variant),
        repo_id=naming.repo_of(namespace or "local", source, variant, template),
        path_in_repo=all_formats()[variant.format].path_in_repo(variant),
    )


def refusal(label: str, variant: Variant, reason: str) -> Failure:
    """Return that a toolchain, or this machine, cannot build a variant."""
    error = UnsupportedArchitectureError(reason, hint="Choose other variants, or a machine that has what is missing.")
    return failure(label, variant.name, "plan", error)


def _reason(
    planned: PlannedVariant, shelf: PublishedRepo | None, content_digest: str, known: PlanInputs
) -> Literal["new", "changed", "outdated"] | None:
    """Say why a variant is to be built, None where it is published as it should be. Raises ForeignRepoError."""
    if known.there.is_foreign(planned.repo_id):
        raise ForeignRepoError(
            f"{planned.repo_id} holds files that phi-bot did not put there",
            hint=f"Nothing in it is changed. Publish in another namespace, or rename {planned.repo_id}.",
        )
    if known.namespace is None or shelf is None or planned.variant.name not in shelf.builds:
        return "new"
    if shelf.builds[planned.variant.name] == planned.build_key:
        return None
    return "outdated" if shelf.contents[planned.variant.name] == content_digest else "changed"


def _check_place(
    planned: PlannedVariant,
    shelf: PublishedRepo | None,
    sighting: SourceState,
    claims: dict[str, str],
    current: naming.Current,
    known: PlanInputs,
) -> None:
    """Raise OtherSourceError where a repo is another source's, and ConfigError where it can have no such name."""
    if known.namespace is None:
        return
    if (problem := naming.too_odd(planned.repo_id)) is not None:
        hint = "Set publish.repo in phi-bot.toml to a shorter template."
        raise ConfigError(f"{planned.repo_id} {problem}", hint=hint)
    if shelf is not None and shelf.builds:
        naming.check_label(planned.repo_id, [shelf.source], sighting.label, current)
    claim = claims.get(planned.repo_id.casefold(), sighting.label)
    if claim != sighting.label:
        raise OtherSourceError(
            f"{planned.repo_id} is for {claim.partition('@')[0]}, so {sighting.repo_id} cannot go there",
            hint=naming.HINT,
        )


def _waits(planned: PlannedVariant, sighting: SourceState, known: PlanInputs) -> Postponed | None:
    if folder_name(planned.build_key, sighting.repo_id, sighting.commit) in known.staged:
        text = "it is staged, and waits for `phi-bot promote`"
        return Postponed(release=sighting.label, planned=planned, why="staged", text=text)
    if waits := known.memory.waits(planned.build_key, known.now):
        return Postponed(release=sighting.label, planned=planned, why="failed", text=waits)
    return None
