"""The card that publishing artifacts would write, and how it differs between two sides."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from bot.catalogue.naming import TEMPLATE, repo_of
from bot.errors import RecordError
from bot.formats.registry import all_formats
from bot.pages import cards
from bot.pages.plots import PICTURES
from bot.publishing.publishable import candidate_of
from bot.reconvert import child
from bot.reconvert.child import ChildError, Code
from bot.reconvert.records import CardDiff
from bot.records.artifacts import RECORD_VERSION, BuildRecord, RepoRecord
from bot.workspace import read_artifact

_SECONDS = 120.0
_LINES, _LINE, _DIFF = 3000, 500, 20_000  # compared, characters of each, characters kept


def card(folders: Sequence[Path], *, namespace: str, endpoint: str, template: str = TEMPLATE) -> str:
    """Return the card of a repo with verified artifacts of one release and format, in Markdown.

    It is the card of a repo that is new, with the pictures that publishing draws beside it. Raises VerifyError for an
    artifact without evidence that it passed, and RecordError for what is none, or for those of several repos.
    """
    candidates = [candidate_of(read_artifact(folder)) for folder in folders]
    repos = {_repo_id(namespace, candidate.proven.build, template) for candidate in candidates}
    if len(repos) != 1:
        raise RecordError(f"artifacts of {len(repos)} repos", hint="Give those of one release and format.")
    builds = {c.name: c.proven for c in candidates}
    return cards.render_card(
        record=RepoRecord(version=RECORD_VERSION, builds=tuple(builds[n] for n in sorted(builds))),
        repo_id=repos.pop(),
        release=candidates[-1].release,
        prompt=candidates[-1].prompt,
        pictures=PICTURES,
        endpoint=endpoint,
    )


def _repo_id(namespace: str, build: BuildRecord, template: str) -> str:
    if build.variant.format not in all_formats():
        raise RecordError(
            f"{build.variant.name} is of an unknown format", hint=f"There are {', '.join(all_formats())}."
        )
    return repo_of(namespace, build.source.repo_id, build.variant, template)


def difference(format_name: str, base: Code, head: Code, folder: Path, *, namespace: str) -> CardDiff:
    """Return how the card of one artifact differs, rendered by each side's own code and templates.

    It is the same artifact on both sides, so that only what the change does to cards is in the diff.
    """
    found: dict[str, list[str]] = {}
    for name, code in (("base", base), ("head", head)):
        try:
            done = child.run(
                code, ["-m", "bot.cli", "card", str(folder), "--namespace", namespace, "--quiet"], seconds=_SECONDS
            )
            if done.returncode != 0:
                raise ChildError(child.failure_line(done))
        except ChildError as error:
            return CardDiff(format=format_name, problem=f"the {name} renders no card: {error}")
        found[name] = [line[:_LINE] for line in done.stdout.splitlines()[:_LINES]]
    lines = difflib.unified_diff(found["base"], found["head"], "base", "head", lineterm="")
    return CardDiff(format=format_name, diff="\n".join(lines)[:_DIFF])
