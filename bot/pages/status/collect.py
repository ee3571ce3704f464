"""Gather what the status page shows. Plain records in, one record out; the Hub is asked elsewhere."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bot.pages.status.records import (
    STATUS_VERSION,
    Entry,
    MadeVariant,
    ModelStatus,
    Quality,
    RepoAtCommit,
    State,
    Status,
)
from bot.records.artifacts import ProvenBuild, RepoRecord
from bot.records.failures import is_refusal
from bot.records.plans import Plan, PlannedVariant, PublishedRepo, SourceState
from bot.state.attempts import Attempted
from bot.state.memory import Memory

_STATES: dict[str, State] = {"new": "planned", "changed": "changed", "outdated": "outdated"}
_TEXTS = {
    "new": "It is built in one of the next runs.",
    "changed": "The model changed since; what is published was made from its former content.",
    "outdated": "An older toolchain or recipe made what is published.",
}
_LEFT_BEHIND = "The model changed since, and the configuration does not ask for this variant any more."


@dataclass(frozen=True, kw_only=True)
class BotSnapshot:
    """The bot's knowledge at one moment.

    ``records`` are those of the repos that ``unread`` named, by repo id; of a repo that is missing there only the names
    of its variants are shown.
    """

    sightings: Sequence[SourceState]
    shelved: Sequence[PublishedRepo]
    records: Mapping[str, RepoRecord]
    plan: Plan
    memory: Memory = field(default_factory=Memory)
    paused: str | None = None
    previous: Status | None = None


def unread(shelved: Iterable[PublishedRepo], previous: Status | None) -> list[str]:
    """Return the repos whose records have to be read: those that the previous page did not know as they are now."""
    known = {s.repo_id: s for s in previous.shelves} if previous else {}
    return [s.repo_id for s in shelved if s.builds and not _is_known(s, known.get(s.repo_id))]


def _is_known(shelved: PublishedRepo, shelf: RepoAtCommit | None) -> bool:
    return (
        shelf is not None
        and shelf.commit == shelved.commit
        and shelved.builds == {m.variant: m.build_key for m in shelf.made}
    )


def collect(
    known: BotSnapshot, *, hub: str, namespace: str, now: dt.datetime, private: bool = False, run: str = ""
) -> Status:
    """Return the status of all models. Unless ``private``, what is private or gated is left out: pages are public."""
    known = _spelled(known)
    hidden = set() if private else _hidden(known)
    shown = [s for s in known.shelved if private or (not s.private and _model(s.source) not in hidden)]
    contents = {s.repo_id: s.content_digest for s in known.sightings}
    entries: dict[str, dict[str, Entry]] = {s.repo_id: {} for s in known.sightings}
    for shelf in shown:
        content = contents.get(_model(shelf.source))
        for variant in shelf.builds:
            entry = Entry(variant=variant, state="published", repo_id=shelf.repo_id, published=True)
            if content is not None and shelf.contents.get(variant) != content:
                entry = replace(entry, state="changed", text=_LEFT_BEHIND)
            entries.setdefault(_model(shelf.source) or shelf.repo_id, {})[variant] = entry
    _add_plan(entries, known, closed=set() if private else {s.repo_id for s in known.shelved if s.private})
    before = {s.repo_id: s for s in known.previous.shelves} if known.previous else {}
    problems = {s.repo_id: s.problem for s in known.sightings}
    commits = {_model(s.source): s.source.partition("@")[2] or None for s in shown}
    commits |= {s.repo_id: s.commit for s in known.sightings}
    models = [
        ModelStatus(
            repo_id=name,
            commit=commits.get(name),
            entries=tuple(entries[name][variant] for variant in sorted(entries[name])),
            problem=problems.get(name, ""),
        )
        for name in sorted(entries, key=lambda name: (name.rsplit("/", 1)[-1].casefold(), name))
        if name not in hidden
    ]
    return Status(
        version=STATUS_VERSION,
        made=now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        hub=hub,
        namespace=namespace,
        models=tuple(models),
        shelves=tuple(_shelf(s, known.records.get(s.repo_id), before.get(s.repo_id)) for s in shown),
        hidden=len(hidden),
        run=run,
        paused=known.paused,
    )


def _spelled(known: BotSnapshot) -> BotSnapshot:
    """Return the same with the models that publications name as they are spelled where they were seen."""
    names = {s.repo_id.casefold(): s.repo_id for s in known.sightings}

    def spelled(label: str) -> str:
        model, at, commit = label.partition("@")
        return f"{names.get(model.casefold(), model)}{at}{commit}"

    return replace(known, shelved=[replace(s, source=spelled(s.source)) for s in known.shelved])


def _hidden(known: BotSnapshot) -> set[str]:
    """Return the models that a public page must not name: private or gated, or published in private repos alone."""
    closed = {s.repo_id for s in known.sightings if s.private or s.gated}
    closed |= {job.release.repo_id for job in known.plan.jobs if job.release.private or job.release.gated}
    public = {_model(s.source) for s in known.shelved if not s.private}
    return closed | ({_model(s.source) for s in known.shelved if s.private} - public)


def _add_plan(entries: dict[str, dict[str, Entry]], known: BotSnapshot, closed: set[str]) -> None:
    """Say of each variant that is not as it should be what the plan and the memory know; not of those in ``closed``."""
    attempts = known.memory.attempts

    def add(label: str, planned: PlannedVariant, text: str) -> None:
        if planned.repo_id in closed:
            return
        variant = planned.variant.name
        of_model = entries.setdefault(_model(label), {})
        before = of_model.get(variant) or Entry(variant=variant, state="planned", repo_id=planned.repo_id)
        changed = replace(before, state=_STATES[planned.reason], text=text)
        tried = attempts.get(planned.build_key)
        of_model[variant] = _tried(changed, tried) if tried else changed

    for job in known.plan.jobs:
        for planned in job.variants:
            add(job.release.label, planned, _TEXTS[planned.reason])
    for postponed in known.plan.postponed:
        add(postponed.release, postponed.planned, postponed.text)
    for failure in known.plan.failures:
        of_model = entries.setdefault(_model(failure.release), {})
        before = of_model.get(failure.variant) or Entry(variant=failure.variant, state="refused", repo_id="")
        if is_refusal(failure):
            if not before.published:
                of_model[failure.variant] = replace(before, state="refused", text=failure.message)
        else:
            of_model[failure.variant] = replace(
                before, state="failed", text=failure.message, hint=failure.hint, step=failure.step
            )


def _tried(entry: Entry, tried: Attempted) -> Entry:
    return replace(
        entry,
        state="stuck" if tried.next is None else "waiting",
        text=tried.words,
        hint=tried.hint,
        step=tried.step,
        attempts=tried.attempts,
        next=tried.next,
        run=tried.run,
    )


def _shelf(shelved: PublishedRepo, record: RepoRecord | None, before: RepoAtCommit | None) -> RepoAtCommit:
    """Return what a repo holds, by its record, or else by the previous page."""
    known = before.made if before else ()
    made = known if record is None else tuple(_made(proven) for proven in record.builds)
    made = tuple(m for m in made if shelved.builds.get(m.variant) == m.build_key)
    return RepoAtCommit(repo_id=shelved.repo_id, commit=shelved.commit, changed=shelved.changed, made=made)


def _made(proven: ProvenBuild) -> MadeVariant:
    build, evidence = proven.build, proven.evidence
    gated = evidence.gated
    return MadeVariant(
        variant=build.variant.name,
        precision=build.variant.precision,
        target=build.variant.target,
        proven_on=evidence.device,
        folder=build.path_in_repo,
        build_key=build.build_key,
        commit=build.source.commit,
        created=build.created,
        size=build.size,
        toolchain=", ".join(f"{name} {version}" for name, version in sorted(build.toolchain.versions.items())),
        runtime=evidence.runtime,
        checks=sum(c.passed for c in evidence.checks),
        gate=evidence.gate,
        quality=tuple(
            Quality(
                side=d.side,
                tokens=d.tokens,
                mean_kl=d.figures.mean_kl,
                error=d.standard_errors.mean_kl,
                agreement=d.figures.top1_agreement,
                gated=d in gated,
            )
            for d in evidence.recommended
        ),
        known=tuple(b.name for b in evidence.known_behaviours),
    )


def _model(label: str) -> str:
    """Return the repo id of ``repo_id@commit``."""
    return label.partition("@")[0]
