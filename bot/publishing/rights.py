"""Rights: whether what is to be done may be done, asked before anything is built, downloaded or drawn."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bot.config import Config
from bot.context import Context
from bot.errors import PhiBotError
from bot.github.release_issues import check_announcing
from bot.hub.client import Hub
from bot.machines.assign_runners import HERE
from bot.publishing.envelopes import signer_of
from bot.publishing.staging import staging_repo
from bot.records.artifacts import Artifact, Failure, Report
from bot.records.failures import Step, failure
from bot.records.plans import Job, Plan

Target = Literal["repos", "staging", "state"]  #: what is to be written to: where people download, or before that


def writable_plan(todo: Plan, into: Target, on: Sequence[str], context: Context) -> Plan:
    """Return what of a plan may be written; better said now than after hours of building. Raises as ``look`` does."""
    config, namespace = context.config, context.config.publish.namespace
    if namespace is None:
        return todo
    if into == "state":
        require(context.hub, [state_repo(config, namespace)])
        return todo
    todo = (
        _stageable(todo, staging_repo(config), context.hub) if into == "staging" else permitted_plan(todo, context.hub)
    )
    if tuple(on) != HERE:
        context.hub.check_jobs(payer(config))
    elif into == "repos":
        signer_of(config.publish.sign.key, os.environ)
        check_announcing(config.announce, context.display)
    return todo


def _stageable(todo: Plan, repo_id: str, hub: Hub) -> Plan:
    """Return a plan as it is, or where the token may not write to the staging repo, as failures alone.

    A Failure each, for the machine that promotes: it counted an attempt at each before, and keeps why it failed.
    """
    try:
        require(hub, [repo_id])
    except PhiBotError as error:
        every = [(job.release.label, v.variant.name) for job in todo.jobs for v in job.variants]
        failures = [failure(label, name, "stage", error) for label, name in every]
        return replace(todo, jobs=(), failures=(*todo.failures, *failures))
    return todo


def permitted_plan(todo: Plan, hub: Hub) -> Plan:
    """Return a plan without what the token may not write: that is a Failure. Raises TokenError where it may nothing."""
    refused = hub.unwritable(v.repo_id for job in todo.jobs for v in job.variants)
    if not refused:
        return todo
    jobs: list[Job] = []
    failures: list[Failure] = []
    for job in todo.jobs:
        kept = tuple(v for v in job.variants if v.repo_id not in refused)
        failures += [
            failure(job.release.label, v.variant.name, "plan", refused[v.repo_id])
            for v in job.variants
            if v.repo_id in refused
        ]
        if kept:
            jobs.append(replace(job, variants=kept))
    return replace(todo, jobs=tuple(jobs), failures=(*todo.failures, *failures))


def permitted_artifacts(given: Report, hub: Hub, step: Step, repo_of: Callable[[Artifact], str]) -> Report:
    """Return artifacts that may be written where ``repo_of`` says, with a Failure for each that may not."""
    places = {a.folder: repo_of(a) for a in given.artifacts}
    refused: Mapping[str, PhiBotError] = {}
    if places:
        try:
            refused = hub.unwritable(places.values())
        except PhiBotError as error:
            refused = dict.fromkeys(places.values(), error)
    failures = [
        failure(a.build.source.label, a.build.variant.name, step, refused[places[a.folder]])
        for a in given.artifacts
        if places[a.folder] in refused
    ]
    kept = tuple(a for a in given.artifacts if places[a.folder] not in refused)
    return replace(given, artifacts=kept, failures=(*given.failures, *failures))


def require(hub: Hub, repos: Iterable[str]) -> None:
    """Raise TokenError where the token may not write to one of these repos."""
    for error in hub.unwritable(repos).values():
        raise error


def state_repo(config: Config, namespace: str) -> str:
    """Return where the bot keeps its memory, as rights name it."""
    return f"datasets/{namespace}/{config.publish.state}"


def payer(config: Config) -> str:
    """Return the namespace that runs the jobs, and pays."""
    return config.hf_jobs.namespace or config.publish.namespace or ""
