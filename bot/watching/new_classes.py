"""Watched models of classes that nothing here builds yet: they are said, and looked at anew once they can be built."""

from collections.abc import Collection, Sequence

from bot.hub.namespace import Listed
from bot.printable import one_line
from bot.records.artifacts import label_of
from bot.records.plans import NewClass
from bot.state.memory import SeenSource

_PROBLEM = "Its class is one that phi-bot does not build yet"
_LONGEST = 80  # characters of a class's name


def as_seen(found: Listed) -> SeenSource:
    """Return a model of a new class as a source that cannot be used. Nothing of it is read."""
    return SeenSource(commit=found.commit, content_digest=None, problem=f"{_PROBLEM}: {_name(found)}")


def was_new(seen: SeenSource) -> bool:
    """Say whether a source could not be used for its class alone, when it was seen."""
    return seen.problem.startswith(_PROBLEM)


def new_classes(listed: Sequence[Listed], sighted: Collection[str]) -> tuple[NewClass, ...]:
    """Return the new classes of the models that were sighted and that anybody may see: a report may be public."""
    models: dict[str, list[str]] = {}
    for found in listed:
        if found.new_class and found.repo_id in sighted and not (found.gated or found.private):
            models.setdefault(_name(found), []).append(label_of(found.repo_id, found.commit))
    return tuple(NewClass(name=name, models=tuple(labels)) for name, labels in sorted(models.items()))


def _name(found: Listed) -> str:
    return one_line(found.new_class)[:_LONGEST]
