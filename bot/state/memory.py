"""The bot's memory between runs: which sources it has seen, what failed and when to try again.

It is kept in one file of a dataset repo of the bot's own (see bot/state/store.py), never on one machine. Losing it
loses no publication: what is published is said by the publications themselves. Nothing here knows the Hub or a clock.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from bot.records.artifacts import Commit, Failure
from bot.records.base import Record, Sha256, of_version
from bot.records.plans import Notice, PlannedVariant
from bot.state.attempts import BEGUN, Attempted, before_begun, iso_time, outcome, truncated

MEMORY_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SeenSource(Record):
    """A source as it was when the bot last looked: its head, its content, or why it cannot be used."""

    commit: Commit
    content_digest: Sha256 | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class ToolchainRefusal(Record):
    """Why a toolchain takes no such model."""

    repo_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Memory(Record):
    """All of it. ``sources`` by repo id; ``attempts`` and ``refusals`` by build key.

    ``refusals`` are as the version ``bot_version`` of this bot knew them.
    """

    version: Annotated[int, of_version(MEMORY_VERSION)] = MEMORY_VERSION
    bot_version: str = ""
    sources: dict[str, SeenSource] = field(default_factory=dict)
    attempts: dict[str, Attempted] = field(default_factory=dict)
    refusals: dict[str, ToolchainRefusal] = field(default_factory=dict)

    def waits(self, build_key: str, now: dt.datetime) -> str | None:
        """Say why a build is not tried at this moment, or return None where it may be."""
        known = self.attempts.get(build_key)
        if known is None:
            return None
        if known.next is None:
            return f"failed {_times(known.attempts)} and waits for `phi-bot retry`: {known.words}"
        if dt.datetime.fromisoformat(known.next) > now:
            return f"failed {_times(known.attempts)} and is tried again after {known.next}: {known.words}"
        return None

    @property
    def repos(self) -> frozenset[str]:
        """The sources of which something failed or was refused."""
        return frozenset([*(a.repo_id for a in self.attempts.values()), *(r.repo_id for r in self.refusals.values())])

    def with_sources(self, sources: Mapping[str, SeenSource]) -> "Memory":
        """Return the memory with these sources in place of those that it knew."""
        return replace(self, sources=dict(sorted(sources.items())))

    def with_refusals(self, refusals: Mapping[str, ToolchainRefusal], *, bot_version: str) -> "Memory":
        """Return the memory with more refusals. Those that another version of the bot found are dropped."""
        kept = self.refusals if bot_version == self.bot_version else {}
        more = {key: replace(refused, reason=truncated(refused.reason)) for key, refused in refusals.items()}
        return replace(self, bot_version=bot_version, refusals=dict(sorted({**kept, **more}.items())))

    def refusal(self, build_key: str, *, bot_version: str) -> str | None:
        """Return why a toolchain refused a build, None where it did not or another version of the bot said so."""
        known = self.refusals.get(build_key)
        return known.reason if known is not None and bot_version == self.bot_version else None

    def begun(
        self, release: str, planned: Iterable[PlannedVariant], *, now: dt.datetime, most: int, run: str = ""
    ) -> "Memory":
        """Count an attempt before it is made: a machine that runs out of memory says nothing afterwards.

        It may be made again at once, unless it was the last of ``most``. ``ended`` takes the count back or keeps it.
        ``run`` is the address where what it prints can be read, if there is one.
        """
        attempts = dict(self.attempts)
        for variant in planned:
            count = self._count(variant.build_key) + 1
            attempts[variant.build_key] = Attempted(
                release=release,
                variant=variant.variant.name,
                attempts=count,
                last=iso_time(now),
                next=None if count >= most else iso_time(now),
                step=BEGUN,
                message="it was begun, and the process ended without a word",
                hint="Was it out of memory, or ended by the time limit of a runner?",
                exit_code=1,
                run=run,
                former=known.ended if (known := attempts.get(variant.build_key)) else None,
            )
        return replace(self, attempts=attempts)

    def ended(
        self, planned: Iterable[PlannedVariant], failures: Iterable[Failure], *, now: dt.datetime, most: int
    ) -> "Memory":
        """Record the outcomes of ``begun`` attempts: successes are forgotten, failures keep their error and pause.

        A failure that the Hub, the token or the machine is to blame for does not count.
        """
        failed = {f.variant: f for f in failures}
        attempts = dict(self.attempts)
        for variant in planned:
            begun = attempts.pop(variant.build_key, None)
            failure = failed.get(variant.variant.name)
            if begun is not None and failure is not None and (known := outcome(begun, failure, now, most)):
                attempts[variant.build_key] = known
        return replace(self, attempts=attempts)

    def failed(self, failures: Iterable[Failure], *, now: dt.datetime, most: int) -> "Memory":
        """Keep the failures of attempts that other machines made. Only attempts that were ``begun`` are known here."""
        found = {(f.release, f.variant): f for f in failures}
        attempts: dict[str, Attempted] = {}
        for key, attempt in self.attempts.items():
            failure = found.get((attempt.release, attempt.variant)) if attempt.step == BEGUN else None
            if failure is None:
                attempts[key] = attempt
            elif known := outcome(attempt, failure, now, most):
                attempts[key] = known
        return replace(self, attempts=attempts)

    def interrupted(self, planned: Iterable[PlannedVariant]) -> "Memory":
        """Take back attempts that a person ended: what is known of those before stays, and they are made again."""
        attempts = dict(self.attempts)
        for variant in planned:
            begun = attempts.pop(variant.build_key, None)
            if begun is not None and begun.attempts > 1:
                attempts[variant.build_key] = replace(before_begun(begun), next=begun.last)
        return replace(self, attempts=attempts)

    def only(self, build_keys: Iterable[str], *, of: Iterable[str]) -> "Memory":
        """Forget what is known of other builds of the repos ``of``: their content, recipe or toolchain changed."""
        wanted, repos = frozenset(build_keys), frozenset(of)
        return replace(
            self,
            attempts={key: a for key, a in self.attempts.items() if key in wanted or a.repo_id not in repos},
            refusals={key: r for key, r in self.refusals.items() if key in wanted or r.repo_id not in repos},
        )

    def forget(self, build_keys: Iterable[str]) -> "Memory":
        """Forget failures, so that the variants are tried again."""
        gone = frozenset(build_keys)
        return replace(self, attempts={key: a for key, a in self.attempts.items() if key not in gone})

    def _count(self, build_key: str) -> int:
        known = self.attempts.get(build_key)
        return known.attempts if known else 0


def changes(before: Mapping[str, SeenSource], after: Mapping[str, SeenSource]) -> tuple[Notice, ...]:
    """Return what happened to sources that can be read between two looks at them, in the order of their names.

    A source that is gone while another one appeared with the same content was renamed.
    """
    gone = {s.content_digest: repo_id for repo_id, s in before.items() if repo_id not in after and s.content_digest}
    notices = []
    for repo_id, seen in sorted(after.items()):
        known = before.get(repo_id)
        readable = known is None or (known.content_digest is None and seen.content_digest is not None)  # only now
        if known is not None and known.commit == seen.commit and not readable:
            continue
        if seen.problem:
            notices.append(Notice(repo_id=repo_id, what="unusable", text=seen.problem))
        elif known is None and seen.content_digest in gone:
            old = gone[seen.content_digest]
            text = f"{old} has this name now; its publications stay where they are"
            notices.append(Notice(repo_id=repo_id, what="renamed", text=text))
        elif known is None or known.content_digest is None:
            notices.append(Notice(repo_id=repo_id, what="new", text="was not here before"))
        elif known.content_digest != seen.content_digest:
            text = "has other weights, another configuration, tokenizer or chat template than before"
            notices.append(Notice(repo_id=repo_id, what="changed", text=text))
        else:
            text = "changed in files that decide nothing; there is nothing to build"
            notices.append(Notice(repo_id=repo_id, what="edited", text=text))
    return tuple(notices)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
