"""Watch: which sources are there, and what is new about them. Asks the Hub; reads no weights.

A source whose head the memory knows is not asked for: a cycle over a thousand of them takes as many requests as their
list has pages.
"""

import datetime as dt
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from bot import source
from bot.config import Config
from bot.context import Context
from bot.errors import ChangedSourceError, HubUnreachableError, PhiBotError, SourceError, TokenError, UnknownModelError
from bot.hub.client import Hub
from bot.hub.namespace import Listed
from bot.records.artifacts import Release
from bot.records.plans import Notice, SourceState, WatchedSources
from bot.state.memory import Memory, SeenSource, changes
from bot.state.store import store_of
from bot.watching.finetunes import choose, looks_for_finetunes
from bot.watching.new_classes import as_seen, new_classes, was_new


@dataclass(kw_only=True)
class Reader:
    """Reads releases whole, and what a plan has to know beside lists; each of it once."""

    hub: Hub = field(repr=False)
    _read: dict[tuple[str, str | None], Release] = field(default_factory=dict, init=False, repr=False)
    _current: dict[str, str | None] = field(default_factory=dict, init=False, repr=False)
    _sources: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False)

    def named(self, model: str) -> Release:
        """Return the release that a MODEL argument names: ``owner/name``, ``owner/name@revision`` or a local folder.

        Raises UnknownModelError for what is neither, and what ``hub.release`` and ``source.local_release`` raise.
        """
        if model and is_folder(model):
            return self._keep(self._local(Path(model).expanduser()))
        repo_id, _, revision = model.partition("@")
        if repo_id.count("/") != 1:
            raise UnknownModelError(
                f"{model!r} is neither a folder here nor a repo id",
                hint="Give owner/name, owner/name@revision, or the path of a folder.",
            )
        return self._keep(self.hub.release(repo_id, revision or None))

    def release(self, sighting: SourceState) -> Release:
        """Return the release that was sighted, at that commit. Raises what ``named`` raises."""
        known = self._read.get((sighting.repo_id, sighting.commit))
        if known is not None:
            return known
        if sighting.folder is not None:
            return self._keep(self._local(Path(sighting.folder)))
        release = self.hub.release(sighting.repo_id, sighting.commit)
        if release.base is not None and sighting.content_digest not in (None, release.content_digest):
            raise ChangedSourceError(
                f"{release.label} is an adapter, and its base {release.base.repo_id} has changed since then",
                hint="Run the same command again.",
            )
        return self._keep(release)

    def current(self, repo_id: str) -> str | None:
        """Return the id that the Hub has for a repo id now, None where it has none. Each is asked for once."""
        if repo_id not in self._current:
            self._current[repo_id] = self.hub.current_id(repo_id)
        return self._current[repo_id]

    def sources_in(self, repo_id: str) -> tuple[str, ...]:
        """Return the labels of all that a repo's builds were made from. Raises what ``hub.record`` raises."""
        if repo_id not in self._sources:
            found = self.hub.record(repo_id)
            self._sources[repo_id] = tuple(b.build.source.label for b in found[0].builds) if found else ()
        return self._sources[repo_id]

    def _local(self, folder: Path) -> Release:
        return source.local_release(folder, base=partial(self.hub.base_of, where=str(folder)))

    def _keep(self, release: Release) -> Release:
        self._read[release.repo_id, release.commit] = release
        return release


def read_named(models: Sequence[str], reader: Reader) -> tuple[list[Release], dict[str, PhiBotError]]:
    """Return the releases that MODEL arguments name, and what is wrong with those that cannot be read.

    Raises the error of the first one where none can be read, and HubUnreachableError: the others would fail alike.
    """
    releases: list[Release] = []
    errors: dict[str, PhiBotError] = {}
    for model in models:
        try:
            releases.append(reader.named(model))
        except HubUnreachableError:
            raise
        except PhiBotError as error:
            errors[model] = error
    if errors and not releases:
        raise next(iter(errors.values()))
    return releases, errors


def unusable(errors: Mapping[str, PhiBotError]) -> tuple[Notice, ...]:
    """Return what people are told of models that cannot be read."""
    return tuple(
        Notice(repo_id=model, what="unusable", text=f"{error.message}. {error.hint}") for model, error in errors.items()
    )


def is_folder(model: str) -> bool:
    """Say whether a MODEL argument means a local folder: it looks like a path, or there is such a folder."""
    return model.startswith((".", "/", "~")) or "\\" in model or Path(model).is_dir()


def source_state(release: Release) -> SourceState:
    """Return a release that was read as one that was seen."""
    return SourceState(
        repo_id=release.repo_id,
        commit=release.commit,
        content_digest=release.content_digest,
        gated=release.gated,
        private=release.private,
        folder=release.folder,
    )


def watch(reader: Reader, context: Context, *, memory: Memory, now: dt.datetime) -> WatchedSources:
    """Return the sources that the configuration watches, and what is new about them since ``memory``.

    A source that cannot be used has no content digest but a problem, which is said and holds up no other.
    """
    config, listed = context.config, _listed(context)
    own = frozenset(found.repo_id for found in listed)
    tunes = choose(_bases(listed, config, now), memory.sources, context)
    listed = [*listed, *(tune for tune in tunes.taken if tune.repo_id not in own)]
    sightings: list[SourceState] = []
    notices: list[Notice] = []
    for found in listed:
        unwanted = _unwanted(found, config, now, known=found.repo_id in memory.sources)
        if unwanted is not None:
            notices += [unwanted] if unwanted.text else []
            continue
        if found.new_class:
            sightings.append(_sighting(found, as_seen(found)))
            continue
        try:
            sightings.append(_sighted(found, reader, memory.sources.get(found.repo_id), config, now))
        except (TokenError, UnknownModelError) as error:  # not remembered: the right may come without a new commit
            notices.append(Notice(repo_id=found.repo_id, what="gated", text=f"{error.message}. {error.hint}"))
        except HubUnreachableError:
            raise
        except PhiBotError as error:  # the Hub refuses this one alone, perhaps
            notices += unusable({found.repo_id: error})
    after = {s.repo_id: _seen(s) for s in sightings}
    known = {repo_id: seen for repo_id, seen in memory.sources.items() if repo_id in after}  # of fine-tunes too
    notices += changes(_watched_before(memory, config) | known, after)
    notices += _gone(memory, config, {found.repo_id for found in listed}, notices)
    notices.sort(key=lambda n: (n.repo_id, n.what))
    return WatchedSources(
        sightings=tuple(sightings),
        notices=tuple(notices),
        finetunes=tunes.words,
        new_classes=new_classes(listed, after),
    )


_NOT_NOW = ("gated", "private", "young", "disabled", "emptied", "unusable")


def remembered(watched: WatchedSources, memory: Memory, config: Config) -> dict[str, SeenSource]:
    """Return the sources to keep in mind after a look.

    Sources that are left out for now, or that another configuration watches, stay as they were known.
    """
    left = {n.repo_id for n in watched.notices if n.what in _NOT_NOW}
    kept = {r: seen for r, seen in memory.sources.items() if r in left or not is_watched(r, config)}
    return kept | {s.repo_id: _seen(s) for s in watched.sightings}


def _listed(context: Context) -> list[Listed]:
    config, hub, display = context.config, context.hub, context.display
    found: dict[str, Listed] = {}  # by id: an author may be named twice, in two spellings
    for author in config.watch.authors:
        display.say(f"Looking for releases of {author} on {hub.endpoint}")
        all_there = hub.sources(author)
        there = [listed for listed in all_there if not listed.new_class]
        watched = [listed for listed in all_there if is_watched(listed.repo_id, config)]
        found |= {listed.repo_id: listed for listed in watched}
        if not there and not watched:
            display.say(
                f"No release of {author} was found: is the name right (watch.authors), and may this token see it?"
            )
        elif not watched:
            display.say(f"None of the {len(there)} releases of {author} is taken by watch.include and watch.exclude")
    return list(found.values())


def _bases(listed: Sequence[Listed], config: Config, now: dt.datetime) -> list[str]:
    """Return the models whose fine-tunes are looked for: those that are taken themselves, however young."""
    known = (found for found in listed if not found.new_class)
    return [found.repo_id for found in known if _unwanted(found, config, now, known=True) is None]


def watched_finetunes(context: Context) -> frozenset[str]:
    """Return the ids, in lower case, of the fine-tunes that the policy takes now, or took at an earlier look.

    What was taken then may be less downloaded by now. Raises ConfigError without a namespace.
    """
    config = context.config
    if not looks_for_finetunes(config):
        return frozenset()
    namespace = config.namespace("without a namespace nothing is remembered")
    seen = store_of(context.hub, namespace, config).memory.sources
    now = choose(_bases(_listed(context), config, dt.datetime.now(dt.UTC)), seen, context).taken
    return frozenset(repo_id.casefold() for repo_id in (*seen, *(tune.repo_id for tune in now)))


def is_watched(repo_id: str, config: Config) -> bool:
    """Say whether a repo is one of those that the configuration watches, by its name; capitals do not count."""
    author, name = repo_id.casefold().split("/", 1)
    included = any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in config.watch.include)
    excluded = any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in config.watch.exclude)
    return author in {a.casefold() for a in config.watch.authors} and included and not excluded


def _unwanted(found: Listed, config: Config, now: dt.datetime, *, known: bool) -> Notice | None:
    """Return why the configuration leaves a source out; the text is empty where nobody need read it."""

    def because(what: Literal["disabled", "emptied", "gated", "private", "young"], text: str) -> Notice:
        return Notice(repo_id=found.repo_id, what=what, text=text)

    if found.disabled:
        return because("disabled", "is disabled by the Hub")
    if not found.usable and not found.new_class:
        return because("emptied", "has no safetensors weights any more; its publications stay" if known else "")
    if found.gated and config.watch.gated == "leave-out":
        since = " now; its publications stay as they are" if known else ""
        return because("gated", f'is gated{since} (watch.gated = "private" takes it)')
    if found.private and config.watch.private == "leave-out":
        return because("private", 'is private (watch.private = "private" takes it)')
    age = _hours_since(found.changed, now)
    if not known and age < config.watch.minimum_age:
        return because("young", f"was changed {age:.1f} hours ago, and is taken after {config.watch.minimum_age:g}")
    return None


def _hours_since(instant: str, now: dt.datetime) -> float:
    return (now - dt.datetime.fromisoformat(instant)).total_seconds() / 3600 if instant else float("inf")


def _sighted(found: Listed, reader: Reader, seen: SeenSource | None, config: Config, now: dt.datetime) -> SourceState:
    young = _hours_since(found.changed, now) < config.watch.minimum_age
    if seen is not None and young and not was_new(seen):
        return _sighting(found, seen)  # as it was: what is new about it has not stood for long enough
    if seen is None or seen.commit != found.commit or was_new(seen):
        seen = _look(found, reader)
    return _sighting(found, seen)


def _sighting(found: Listed, seen: SeenSource) -> SourceState:
    return SourceState(
        repo_id=found.repo_id,
        commit=seen.commit,
        content_digest=seen.content_digest,
        changed=found.changed,
        gated=found.gated,
        private=found.private,
        problem=seen.problem,
    )


def _look(found: Listed, reader: Reader) -> SeenSource:
    try:
        release = reader.release(SourceState(repo_id=found.repo_id, commit=found.commit, content_digest=None))
    except SourceError as error:
        return SeenSource(commit=found.commit, content_digest=None, problem=f"{error.message}. {error.hint}")
    return SeenSource(commit=found.commit, content_digest=release.content_digest)


def _seen(sighting: SourceState) -> SeenSource:
    assert sighting.commit is not None  # noqa: S101 - what is listed has one
    return SeenSource(commit=sighting.commit, content_digest=sighting.content_digest, problem=sighting.problem)


def _watched_before(memory: Memory, config: Config) -> dict[str, SeenSource]:
    """Return the sources of the memory that this configuration watches: another one may have filled it."""
    return {repo_id: seen for repo_id, seen in memory.sources.items() if is_watched(repo_id, config)}


def _gone(memory: Memory, config: Config, listed: set[str], notices: Sequence[Notice]) -> list[Notice]:
    renamed = {n.text.split(" ", 1)[0] for n in notices if n.what == "renamed"}
    text = "does not exist any more, or not for this token; its publications stay as they are"
    return [
        Notice(repo_id=repo_id, what="deleted", text=text)
        for repo_id in _watched_before(memory, config)
        if repo_id not in listed and repo_id not in renamed
    ]
