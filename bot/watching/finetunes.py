"""Fine-tunes and adapters of the watched models: which of them the policy of the configuration takes, and why.

Asks for one list of each author that ``watch.finetunes`` names, and, where it takes the most downloaded, for one or two
of each watched model. What is left out is told with its reason, up to where enough are taken; the rest is a number.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bot.config import Config
from bot.config.tables import FinetunesTable
from bot.context import Context
from bot.hub.finetunes import Kind, Tune
from bot.hub.namespace import Listed
from bot.printable import one_line
from bot.records.plans import Notice, PolicyWord

_CALLED: dict[Kind, str] = {"finetune": "fine-tune", "adapter": "adapter"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the policy takes, in the order in which it is built, and a word on each model that was looked at."""

    taken: tuple[Listed, ...] = ()
    words: tuple[Notice, ...] = ()


def looks_for_finetunes(config: Config) -> bool:
    """Say whether the configuration takes any fine-tune."""
    policy = config.watch.finetunes
    return policy.limit > 0 and bool(policy.authors or policy.most_downloaded)


def choose(bases: Sequence[str], seen: Iterable[str], context: Context) -> Choice:
    """Return the fine-tunes that the policy takes: those of the named authors first, then the most downloaded.

    ``bases`` are the watched models, which are not their own fine-tunes; ``seen`` are models that the bot knows.
    Raises what ``hub.tunes_of_author`` raises.
    """
    if not looks_for_finetunes(context.config):
        return Choice()
    found = _Found(config=context.config, known=frozenset(seen), passed={b.casefold() for b in bases})
    for author in context.config.watch.finetunes.authors:
        context.display.say(f"Looking for fine-tunes of {author} on {context.hub.endpoint}")
        found.take(context.hub.tunes_of_author(author))
    for tune in sorted(_most_downloaded(bases, context, found), key=lambda tune: -tune.downloads):
        found.settle(tune)
    return Choice(taken=tuple(found.taken), words=tuple(found.words))


def _most_downloaded(bases: Sequence[str], context: Context, found: "_Found") -> list[Tune]:
    """Return of each model, and of each kind, as many as the policy takes of one; what is passed over is told."""
    policy, display = context.config.watch.finetunes, context.display
    if not policy.most_downloaded or not bases:
        return []
    display.say(f"Looking for the most downloaded fine-tunes of {len(bases)} models on {context.hub.endpoint}")
    chosen: list[Tune] = []
    for base in bases:
        for kind in _kinds(policy):
            fit: list[Tune] = []
            left = 0
            for tune in context.hub.tunes_of_model(base, kind):
                if len(fit) == policy.most_downloaded:
                    left += 1
                elif found.fits(tune):
                    fit.append(tune)
            chosen += fit
            if left:
                found.tell(base, "number", f"further {_CALLED[kind]}s looked at, downloaded less: {left}")
    return chosen


def _kinds(policy: FinetunesTable) -> tuple[Kind, ...]:
    return ("finetune", "adapter") if policy.adapters else ("finetune",)


@dataclass(kw_only=True)
class _Found:
    """The models that were looked at so far. ``passed`` are the ids of those that are settled, in lower case."""

    config: Config
    known: frozenset[str]
    passed: set[str]
    taken: list[Listed] = field(default_factory=list)
    words: list[Notice] = field(default_factory=list)

    def take(self, tunes: Iterable[Tune]) -> None:
        """Take the models of an author that fit, as far as the limit goes."""
        for tune in tunes:
            if tune.kind in _kinds(self.config.watch.finetunes) and self.fits(tune):
                self.settle(tune)

    def fits(self, tune: Tune) -> bool:
        """Say whether the policy takes such a model, whatever the numbers; it is told why not, once."""
        repo_id = tune.listed.repo_id
        if repo_id.casefold() in self.passed:
            return False
        word = _unwanted(tune, self.config)
        if word is not None:
            self.passed.add(repo_id.casefold())
            self.tell(repo_id, *word)
        return word is None

    def settle(self, tune: Tune) -> None:
        """Take a model that fits, unless as many are taken already."""
        repo_id = tune.listed.repo_id
        if repo_id.casefold() in self.passed:
            return
        self.passed.add(repo_id.casefold())
        of = f" of {tune.base}" if tune.base else ""
        what = f"{_CALLED[tune.kind]}{of}, downloads: {tune.downloads:,}, {tune.license}"
        if len(self.taken) >= self.config.watch.finetunes.limit:
            self.tell(repo_id, "number", f"is beyond watch.finetunes.limit: {what}")
            return
        self.taken.append(tune.listed)
        self.tell(repo_id, "taken", what + ("; seen before" if repo_id in self.known else "; not seen before"))

    def tell(self, repo_id: str, what: PolicyWord, text: str) -> None:
        """Keep a word for people."""
        self.words.append(Notice(repo_id=repo_id, what=what, text=one_line(text)))


def _unwanted(tune: Tune, config: Config) -> tuple[PolicyWord, str] | None:
    """Return why a model is left out, whatever the numbers; None where it is not."""
    name, policy = tune.listed.repo_id.split("/", 1)[1].casefold(), config.watch.finetunes
    if any(fnmatch.fnmatchcase(name, pattern.casefold()) for pattern in config.watch.exclude):
        return "excluded", "fits watch.exclude"
    if tune.unfit:
        return "unfit", tune.unfit
    if tune.listed.gated:
        return "gated", "is gated, and no fine-tune is taken that is"
    if tune.listed.private:
        return "private", "is private, and no fine-tune is taken that is"
    if tune.license.casefold() not in {name.casefold() for name in policy.licenses}:
        said = f"has the licence {tune.license[:50]}" if tune.license else "names no licence"
        return "license", f"{said} (watch.finetunes.licenses: {', '.join(policy.licenses)})"
    return None
