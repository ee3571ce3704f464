"""Run: the whole way of a release, in one process."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import bot
from bot import catalogue
from bot.building.free_space import keep_within, make_room
from bot.config import Config
from bot.context import Context
from bot.errors import ChangedSourceError, SourceError
from bot.formats import recipes
from bot.hf_jobs.run import submit
from bot.hub.namespace import Namespace
from bot.machines.assign_runners import HERE, assign_runners
from bot.progress import Display
from bot.proving.job_disk import in_turns
from bot.proving.prove import prove_all
from bot.publishing.early_upload import EarlyUpload
from bot.publishing.rights import Target, writable_plan
from bot.publishing.staging import staged_folders
from bot.records.artifacts import Failure, Report, Variant
from bot.records.failures import cut_short, failure, is_refusal, merge_reports
from bot.records.plans import Job, Plan, WatchedSources
from bot.state.counting import counting_attempts
from bot.state.memory import Memory, ToolchainRefusal
from bot.state.store import Store, store_of
from bot.steps.plan import NOTHING, PlanInputs, current_keys, plan, require_work
from bot.steps.publish import Owners, publish
from bot.steps.publish import publish_target as placed_to_publish
from bot.steps.stage import stage
from bot.steps.stage import staging_target as placed_to_stage
from bot.steps.watch import Reader, read_named, remembered, source_state, unusable, watch


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """The purpose of a look at the Hub, and so what it takes into account. All purposes have names, below.

    ``on`` names the runners, or kinds of them, that build. ``by_headers`` says whether jobs are estimated by the
    headers of weights, or else by the sizes of files. ``remembers`` says whether the sources that it sees are
    remembered. Where it ``stages``, variants that wait to be promoted are not built again. ``into`` names the repos to
    write to.
    """

    on: tuple[str, ...] = HERE
    by_headers: bool = False
    remembers: bool = False
    stages: bool = False
    into: Target | None = None

    def on_runners(self, on: Sequence[str]) -> "Purpose":
        """Return the same for builds on these runners. Other machines than this one are chosen by headers."""
        return replace(self, on=tuple(on), by_headers=self.by_headers or tuple(on) != HERE)

    def by_sizes(self) -> "Purpose":
        """Return the same without reading a header."""
        return replace(self, by_headers=False)

    def in_a_dry_run(self) -> "Purpose":
        """Return the same where nothing is written."""
        return replace(self, remembers=False, into=None)


TO_SEE = Purpose()  #: what is there, and what could be made of it
TO_PLAN = Purpose(by_headers=True)  #: for a person or a program that builds by the plan
FOR_A_MATRIX = Purpose(on=("github", "own"), by_headers=True, stages=True)  #: a GitHub workflow's, which stages
TO_BEGIN_A_MATRIX = replace(FOR_A_MATRIX, remembers=True, into="state")
TO_PUBLISH = Purpose(remembers=True, into="repos")
TO_STAGE = Purpose(stages=True, into="staging")  #: who promotes keeps what is remembered


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """The result of one look at the Hub: publications, work to do, and the memory to keep it in.

    ``there`` is what the namespace holds. ``store`` is None where nothing is published, so nothing is remembered.
    ``context`` are those of the look, with the namespace as the Hub spells it.
    ``paused`` says why nothing is to begin.
    """

    watched: WatchedSources
    todo: Plan
    there: Namespace
    store: Store | None
    context: Context
    paused: str | None = None


def watch_and_plan(
    models: Sequence[str],
    variants: Sequence[Variant],
    context: Context,
    purpose: Purpose,
    *,
    given: WatchedSources | None = None,
) -> Cycle:
    """Watch and plan: the named models, or those that the configuration watches. Builds nothing.

    ``variants`` are rows of the catalogue; the configuration says how they are rounded.
    ``given`` is the result of an earlier watch, and takes the place of watching. Where the token surely may not write
    what the ``purpose`` wants written, that is a failure, and nothing is built. One of several named models that cannot
    be read is a failure of each variant.
    Raises the error of the first where none can be read, UnsupportedArchitectureError where nothing of them can be
    built, and TokenError where nothing of what is to be done may be written with this token.
    """
    config, now = context.config, _now()
    variants = recipes.configured(variants, config.build.imatrix_from_4_bits, config.build.quality)
    store = _store(context)
    if purpose.remembers and (paused := _paused(config, store)) is not None:
        nothing = Plan(jobs=(), done=(), failures=())
        return Cycle(
            watched=WatchedSources(sightings=()),
            todo=nothing,
            there=NOTHING,
            store=store,
            context=context,
            paused=paused,
        )
    reader = Reader(hub=context.hub)
    memory = Memory() if store is None else store.memory
    releases, broken = read_named(models if given is None else (), reader)
    if given is not None:
        watched = given
    elif models:
        # A model may be named twice, in two spellings.
        watched = WatchedSources(sightings=tuple(dict.fromkeys(map(source_state, releases))), notices=unusable(broken))
    else:
        watched = watch(reader, context, memory=memory, now=now)
    there = NOTHING if config.publish.namespace is None else context.hub.namespace(config.publish.namespace)
    context = context.spelled(there.owner)
    config = context.config
    if store is not None and config.publish.namespace is not None:
        store.repo_id = f"{config.publish.namespace}/{config.publish.state}"
    known = PlanInputs(
        namespace=config.publish.namespace,
        there=there,
        staged=staged_folders(config, context.hub) if purpose.stages and config.publish.namespace else frozenset(),
        memory=memory.forget(memory.attempts) if models else memory,  # who names a model wants it now
        template=config.publish.repo,
        outdated="now" if models else config.build.outdated,
        here=purpose.on == HERE,
        now=now,
    )
    todo, refusals = plan(watched.sightings, variants, reader=reader, known=known)
    if models and not broken:
        require_work(todo)
    more = tuple(failure(model, v.name, "plan", error) for model, error in broken.items() for v in variants)
    todo = replace(todo, failures=(*more, *todo.failures))
    todo = assign_runners(todo, context, on=purpose.on, exact=purpose.by_headers)
    if todo.jobs and purpose.into is not None:
        todo = writable_plan(todo, purpose.into, purpose.on, context)
    if store is not None and purpose.remembers and not models:
        _keep(store, watched, todo, refusals, config, variants)
    return Cycle(watched=watched, todo=todo, there=there, store=store, context=context, paused=_paused(config, store))


def _keep(
    store: Store,
    watched: WatchedSources,
    todo: Plan,
    refusals: Mapping[str, ToolchainRefusal],
    config: Config,
    asked: Sequence[Variant],
) -> None:
    """Remember what was seen, and forget what it makes a thing of the past, and what is published by now."""
    done = [planned.build_key for planned in todo.done]
    labels = {f.release for f in todo.failures if f.exit_code == ChangedSourceError.exit_code}
    changed = {s.repo_id for s in watched.sightings if s.label in labels}  # an adapter's base: read again next time

    def change(memory: Memory) -> Memory:
        seen = remembered(watched, memory, config)
        known = memory.with_sources({r: one for r, one in seen.items() if r not in changed}).forget(done)
        known = known.with_refusals(refusals, bot_version=bot.__version__)
        affected = [s for s in watched.sightings if s.repo_id in known.repos]
        rows = [catalogue.known(a.variant) for a in known.attempts.values()]
        sized = [row for row in rows if row is not None and row.size_limit is not None]
        return known.only(current_keys(affected, (*asked, *sized)), of=[s.repo_id for s in affected])

    store.update(change, "Remember what was seen")


def run(
    models: Sequence[str],
    variants: Sequence[Variant],
    *,
    named: frozenset[str],
    context: Context,
    on: Sequence[str] = HERE,
    staged: bool = False,
) -> tuple[Cycle, Report]:
    """Bring the publications of the releases up to date. Return what was seen and planned, and what came of it.

    ``on`` says where it is built: on this machine, or on Hugging Face Jobs (``hf-jobs``, or a flavor of them). With
    ``staged``, artifacts are staged, and another machine publishes them (``promote``), and keeps count of failures.

    A job that fails does not hold up the others. Without a namespace nothing is published, and the proven artifacts are
    in the working folder. A variant that a toolchain refuses is a failure only if it is in ``named``: asked for by its
    own name, not as one of a set. In a dry run, and while the bot is paused, nothing is done and nothing remembered.
    Before each release, or turn of one, and at the end, the working folder is brought within ``work.keep``. Raises what
    ``watch_and_plan`` raises, and CutShortError on Ctrl-C.
    """
    dry = context.config.run.dry_run
    here = tuple(on) == HERE
    purpose = (TO_STAGE if staged else TO_PUBLISH).on_runners(on)
    cycle = watch_and_plan(models, variants, context, purpose.in_a_dry_run() if dry else purpose)
    context = cycle.context
    _say(cycle, context.display, named=bool(models))
    for word in cycle.watched.finetunes if dry else ():
        context.display.say(f"{word.repo_id} ({word.what}): {word.text}")
    report = Report(failures=relevant_failures(cycle.todo, models, named))
    if dry or cycle.paused is not None:
        return cycle, report
    if not here:
        sent = submit(cycle.todo, context, staged=staged)
        return cycle, merge_reports(report, sent)
    faults: dict[str, SourceError] = {}  # of models that are themselves at fault, by label: over all their turns
    for jobs in _turns(cycle.todo, context, staged=staged):
        if cycle.store is not None and (paused := _paused_now(cycle.store)) is not None:
            context.display.say(f"Paused: {paused}. The rest is left for the next run")
            return replace(cycle, paused=paused), report
        if jobs[0].release.label not in faults:
            keep_within(context, cycle.todo, jobs)
        try:
            with context.workspace.at_work():
                done = _staged(jobs, context) if staged else _release(jobs, cycle.store, context, faults)
            report = merge_reports(report, done)
        except KeyboardInterrupt as error:
            wanted = [(job.release.label, v.variant.name) for job in cycle.todo.jobs for v in job.variants]
            raise cut_short(report, error, wanted, "build") from error
    keep_within(context, cycle.todo)
    return cycle, report


def _turns(todo: Plan, context: Context, *, staged: bool) -> Iterator[tuple[Job, ...]]:
    """Yield the jobs of each release; those of one in turns, where the disk takes that. What is staged stays here.

    Turns are decided by what is free once all is removed that stands in the way of the release.
    """
    for _, of_release in groupby(todo.jobs, key=lambda job: job.release.label):
        group = tuple(of_release)
        if staged:
            yield group
        else:
            make_room(context, todo, group)
            yield from in_turns(group, context)


def relevant_failures(todo: Plan, models: Sequence[str], named: frozenset[str]) -> tuple[Failure, ...]:
    """Return the failures of a plan that count.

    The refusal of a toolchain counts if the variant was named, or the model, and nothing of that can be built.
    """
    planned = {job.release.label for job in todo.jobs} | {p.release for p in todo.postponed}
    nothing = bool(models) and not todo.done
    return tuple(
        f for f in todo.failures if f.variant in named or not is_refusal(f) or (nothing and f.release not in planned)
    )


def _store(context: Context) -> Store | None:
    namespace = context.config.publish.namespace
    if namespace is None:
        return None
    return store_of(context.hub, namespace, context.config)


def _paused(config: Config, store: Store | None) -> str | None:
    if config.run.paused:
        return "run.paused is true in the configuration"
    return None if store is None else store.paused


def _paused_now(store: Store) -> str | None:
    store.read()
    return store.paused


def _say(cycle: Cycle, display: Display, *, named: bool) -> None:
    for notice in cycle.watched.notices:
        display.say(f"{notice.repo_id} ({notice.what}): {notice.text}")
    for label in dict.fromkeys(job.release.label for job in cycle.todo.jobs):
        display.say(f"Found {label}")
    for refused in cycle.todo.failures:
        display.say(f"Left out {refused.variant} of {refused.release}: {refused.message}")
    for later in cycle.todo.postponed:
        display.say(f"Not now: {later.planned.variant.name} of {later.release}: {later.text}")
    for there in cycle.todo.done if named else ():  # of all that is watched, their number is enough
        display.say(f"{there.variant.name} is in {there.repo_id} already: nothing to do")


def _release(jobs: Sequence[Job], store: Store | None, context: Context, faults: dict[str, SourceError]) -> Report:
    """Build, verify and publish what one release asks for. It is published when all of it is known.

    So each repo takes one commit, and its pictures show every format, unless the disk does not hold all of them
    together (see ``in_turns``). Large files go up meanwhile. ``faults`` are as in ``prove_all``.
    """
    with counting_attempts(jobs, store, context) as outcome:
        settings = context.config.publish
        namespace, private, template = settings.namespace, settings.private, settings.repo
        if namespace is None:
            report = prove_all(jobs, context, faults=faults)
        else:
            where = partial(placed_to_publish, namespace=namespace, private=private, template=template)
            with EarlyUpload(context.hub, where, context.display, Owners(hub=context.hub)) as ahead:
                report = prove_all(jobs, context, ahead.offer, faults)
        if report.artifacts and namespace:
            try:
                published = publish(report.artifacts, context)
            except KeyboardInterrupt as error:
                raise cut_short(report, error, (), "publish") from error
            report = merge_reports(report, published)
        outcome.append(report)
    return report


def _staged(jobs: Sequence[Job], context: Context) -> Report:
    """Build and verify what one release asks for, and stage what is proven."""
    where = partial(placed_to_stage, context=context)
    with EarlyUpload(context.hub, where, context.display) as ahead:
        report = prove_all(jobs, context, ahead.offer)
    if not report.artifacts:
        return report
    try:
        done = stage(report.artifacts, context)
    except KeyboardInterrupt as error:
        raise cut_short(report, error, (), "stage") from error
    return merge_reports(report, done)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
