"""Assign runners: what a plan takes, read from the headers of weights, and where it runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bot import source
from bot.context import Context
from bot.errors import PhiBotError, SourceError, TokenError
from bot.hub.client import Hub
from bot.hub.errors import hub_errors
from bot.machines import hf_flavors
from bot.machines.placing import place_jobs
from bot.machines.runners import LOCAL, Runner, chosen, known_runners
from bot.records.artifacts import Failure, Release
from bot.records.failures import failure
from bot.records.plans import Plan
from bot.source.shape import Shape, local_shape

HERE = (LOCAL,)  #: where a plan runs unless it is told otherwise


def assign_runners(todo: Plan, context: Context, *, on: Sequence[str] = HERE, exact: bool = True) -> Plan:
    """Give the jobs of a plan their estimates and runners. A release with damaged headers becomes a Failure.

    ``on`` names runners or kinds of them. Unless it is to be ``exact``, no header is read, and sizes of files have to
    do. Raises ConfigError for a runner that is not known, and HubUnreachableError among others.
    """
    runners = candidates(on, context)
    shapes: dict[str, Shape] = {}
    if exact:
        todo, shapes = _with_shapes(todo, context.hub)
    return place_jobs(todo, runners=runners, shapes=shapes, config=context.config)


def candidates(on: Sequence[str], context: Context) -> tuple[Runner, ...]:
    """Return the runners that ``on`` names. The flavors of Hugging Face Jobs are asked for where they may be meant."""
    flavors: tuple[Runner, ...] = ()
    if any(name == "any" or name.partition("/")[0] == "hf-jobs" for name in on):
        try:
            with hub_errors(context.hub.endpoint):
                flavors = hf_flavors.flavors(context.hub.api)
        except PhiBotError as error:
            context.display.say(
                f"The list of Hugging Face Jobs cannot be read, so a known one is taken: {error.message}"
            )
    return chosen(known_runners(context.config, flavors=flavors), on)


def _with_shapes(todo: Plan, hub: Hub) -> tuple[Plan, dict[str, Shape]]:
    """Read the shape of each release once, by its content digest. Releases that cannot be read are not built."""
    shapes: dict[str, Shape] = {}
    broken: dict[str, PhiBotError] = {}
    failures: list[Failure] = []
    for job in todo.jobs:
        release = job.release
        if release.content_digest not in shapes and release.content_digest not in broken:
            try:
                shapes[release.content_digest] = _shape(release, hub)
            except (SourceError, TokenError) as error:
                broken[release.content_digest] = error
        if (reason := broken.get(release.content_digest)) is not None:
            failures += [failure(release.label, v.variant.name, "plan", reason) for v in job.variants]
    kept = tuple(job for job in todo.jobs if job.release.content_digest not in broken)
    return replace(todo, jobs=kept, failures=(*todo.failures, *failures)), shapes


def _shape(release: Release, hub: Hub) -> Shape:
    if release.folder is not None and release.base is None:
        source.check(Path(release.folder))  # the tokenizer too: it is here, and costs no request
        return local_shape(Path(release.folder), release.config, release.layout)
    return hub.shape(release)
