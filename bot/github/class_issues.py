"""The text of the issue of each class of models that cannot be built yet: of which models, and what it would take."""

import re

from bot.github import ReleaseIssue
from bot.pages import templates
from bot.pages.new_classes import tools_to_move
from bot.records.plans import NewClass, WatchedSources

KIND = "class"
OVER = "No watched model needs it any more: phi-bot reads the class now, or there is none of it left."

_NOT_OF_A_KEY = re.compile(r"[^a-z0-9._-]")


def class_issues(watched: WatchedSources, *, hub: str) -> tuple[ReleaseIssue, ...]:
    """Return the issue of each class of watched models that nothing here builds. ``hub`` is the Hub's address."""
    return tuple(_issue(one, hub) for one in watched.new_classes or ())


def _issue(one: NewClass, hub: str) -> ReleaseIssue:
    text = (
        templates.environment()
        .get_template("class.md.j2")
        .render(name=one.name, models=one.models, hub=hub, tools=tools_to_move(one.name))
    )
    key = "c-" + _NOT_OF_A_KEY.sub("-", one.name.lower())
    return ReleaseIssue(key=key, title=f"{one.name} cannot be built yet", text=text.strip(), closed=False, kind=KIND)
