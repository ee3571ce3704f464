"""Naming: which repo a variant of a model is published in, and whose a repo is that is there already.

Whatever names a target repo asks here: plans, uploads, commits, proposals and checks cannot mean different ones.
"""

import re
from collections.abc import Callable, Iterable

from bot.errors import OtherSourceError
from bot.formats.registry import all_formats
from bot.records.artifacts import RepoRecord, SourceRef, Variant

TEMPLATE = "{name}{suffix}"  #: what ``publish.repo`` is where it is not set
LONGEST = 96  # characters of a repo's name on the Hub

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_FIELD = re.compile(r"\{(owner|name|suffix)\}")
HINT = (
    "Nothing in it is changed. Set publish.repo in phi-bot.toml to a template with the owner in it, such as "
    '"{owner}-{name}{suffix}", or leave one of the two models out (watch.exclude).'
)

Current = Callable[[str], str | None]  #: returns the id that the Hub has for a repo id now, None where it has none


def repo_of(namespace: str, source: str, variant: Variant, template: str = TEMPLATE) -> str:
    """Return the repo that a variant of a source, a repo id, belongs in: ``namespace/name``, by ``publish.repo``."""
    owner, _, name = source.rpartition("/")
    values = {"owner": owner, "name": name, "suffix": all_formats()[variant.format].repo_suffix(variant)}
    return f"{namespace}/{_FIELD.sub(lambda field: values[field[1]], template)}"


def objection(template: str) -> str | None:
    """Return what is wrong with a template for names of repos, None where nothing is."""
    for wanted in ("name", "suffix"):
        if template.count(f"{{{wanted}}}") != 1:
            return f"needs {{{wanted}}} once: without it, different files would go into one repo"
    if template.count("{owner}") > 1:
        return "has {owner} twice"
    rest = _FIELD.sub("", template)
    if odd := re.search(r"[^A-Za-z0-9._-]", rest):
        return f"has {odd[0]!a} in it, which no name of a repo may have ({{owner}}, {{name}} and {{suffix}} are known)"
    if _problem(_FIELD.sub("x", template)) is not None:
        return "makes names that the Hub does not take"
    return None


def too_odd(repo_id: str) -> str | None:
    """Return why the Hub will not take the name that a template made for a repo, None where it will."""
    return _problem(repo_id.partition("/")[2])


def check_source(repo_id: str, record: RepoRecord, source: SourceRef, current: Current) -> None:
    """Raise OtherSourceError where a repo holds what was made from another model than ``source``.

    ``current`` is asked of a model by another name: the Hub leads from the old name of one that was renamed to its new
    one, and those two are one model.
    """
    check_label(repo_id, (b.build.source.label for b in record.builds), source.label, current)


def check_label(repo_id: str, held: Iterable[str], label: str, current: Current) -> None:
    """The same by labels, ``repo_id@commit``, as the head of a card has them; a folder of some machine has no @."""
    wanted = _identity(label)
    others = {_identity(text): text.partition("@")[0] for text in held if text}
    for other, name in others.items():
        if other == wanted:
            continue
        renamed = current(name) if other[1] and wanted[1] else None
        if renamed is None or renamed.casefold() != wanted[0]:
            raise OtherSourceError(
                f"{repo_id} holds files made from {name}, not from {label.partition('@')[0]}", hint=HINT
            )


def _identity(label: str) -> tuple[str, bool]:
    """Return what a source is told from others by: its id in small letters, and whether it is on the Hub."""
    repo_id, at, _ = label.partition("@")
    return repo_id.casefold(), bool(at)


def _problem(name: str) -> str | None:
    if len(name) > LONGEST:
        return f"is a name of {len(name)} characters, and the Hub takes {LONGEST}"
    if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.lower().endswith(".git"):
        return "is a name that the Hub does not take"
    return None
