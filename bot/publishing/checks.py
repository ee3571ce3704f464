"""Check the artifacts of another machine: they are what this bot would publish. Runs no model code.

The machine that builds reads a stranger's files with large libraries, so its artifacts are a claim. Everything that can
be known without it is computed here again: the recipe, the lock, the build key, the gates, the release on the Hub.
Only the measured figures are taken on its word (docs/security.md).
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bot import catalogue, source, toolchains
from bot.building import reference
from bot.config import Config
from bot.errors import PromotionError
from bot.formats import recipes
from bot.formats.registry import Format, all_formats
from bot.hub.client import RECORD_FILE, Hub
from bot.hub.contents import HubFile
from bot.pages import figures
from bot.pages.plots import PICTURES
from bot.publishing.compose import path_in_repo
from bot.publishing.statements import STATEMENTS_FILE
from bot.records.artifacts import BuildRecord, Json, ProvenBuild, Release, SourceFile, Variant
from bot.records.evidence import CHECKS, EVIDENCE_VERSION, Evidence, judge
from bot.source.config import asks_for_code
from bot.source.prompt import Prompt
from bot.source.strict import parse_object

_RESERVED = frozenset({"README.md", ".gitattributes", RECORD_FILE, STATEMENTS_FILE, *PICTURES, *source.NOTICES})
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!_-]{0,60}")
_TENSOR = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_VOCABULARIES = ("tokenizer.json", "vocab.json")  # large, and nothing in them asks for code
_LONGEST_PROMPT = 20_000  # characters
_LARGEST_RECORD = 250_000  # bytes: build and evidence of a variant have some 30 kB
_LEAST_KL = -1e-6  # nats: rounding, and no more
_MOST_KL = 1000.0  # nats: more than any model is from another
_CLOCKS_DIFFER = dt.timedelta(hours=1)


def check_build(build: BuildRecord) -> None:
    """Check a claim to have built by one of this bot's own recipes. Raises PromotionError, naming what differs."""
    row, _ = _known(build)
    if catalogue.known(build.variant.name) is None:
        raise _not_ours(build, "by a recipe that the catalogue here does not have")
    if build.variant not in recipes.possible(row):  # as the configuration has it where it was built
        raise _not_ours(build, "by another recipe than that of the catalogue here")
    lock = toolchains.lock_digest(row.format)
    if (build.toolchain.name, build.toolchain.lock_digest) != (row.format, lock):
        raise _not_ours(build, "in another toolchain than the one that is locked here")
    if build.build_key != recipes.key_of(build.source.content_digest, build.variant):
        raise _not_ours(build, "under another build key than release, recipe and toolchain give")
    if build.imatrix is not None and build.imatrix.text_sha256 != recipes.text_digest():
        raise _not_ours(build, "with an importance matrix of another text than the one here")
    if build.calibration is not None and build.calibration.text_sha256 != recipes.text_digest():
        raise _not_ours(build, "calibrated on another text than the one here")


def check_shape(build: BuildRecord, *, now: dt.datetime) -> None:
    """Check of a claim what holds for any recipe: where its files go, and what they may be called."""
    row, form = _known(build)
    if build.path_in_repo != form.path_in_repo(row):
        raise _odd(
            build, f"is meant for {build.path_in_repo or 'the top folder'!r}, where {row.format} does not put it"
        )
    for entry in build.files:
        source.check_name(entry.path, where=build.variant.name)
        if not entry.path.endswith(form.suffixes):
            raise _odd(build, f"has a file {entry.path!r}, which is not one of {form.title}")
        if path_in_repo(build.path_in_repo, entry.path) in _RESERVED:
            raise _odd(build, f"has a file {entry.path!r}, a name that a repo has for something else")
        if entry.size < 0:
            raise _odd(build, f"has a file {entry.path!r} of {entry.size} bytes")
    if not build.files or len({f.path for f in build.files}) != len(build.files):
        raise _odd(build, "names no files, or one twice")
    if (limit := build.variant.size_limit) is not None and build.size > limit:
        raise _odd(build, f"has {build.size} bytes, and may have {limit}")
    trial, tried = build.imatrix_trial, recipes.is_tried(build.variant)
    if trial is not None and not tried:
        raise _odd(build, "has tried an importance matrix against its recipe")
    if trial is not None and not all(_LEAST_KL <= value <= _MOST_KL for value in trial.to_json().values()):
        raise _odd(build, "has tried an importance matrix with impossible figures")
    wanted = recipes.needs_matrix(build.variant) or (trial is not None and trial.gains)
    if (build.imatrix is not None) != wanted:
        raise _odd(build, f"has an importance matrix, or has none, against its {'trial' if tried else 'recipe'}")
    if build.imatrix is not None and build.imatrix.text != recipes.TEXT:
        raise _odd(build, "has an importance matrix of a text that is not the bot's")
    if (build.calibration is not None) != build.variant.is_calibrated:
        raise _odd(build, "is calibrated, or is not, against its recipe")
    if build.calibration is not None and build.calibration.text != recipes.TEXT:
        raise _odd(build, "is calibrated on a text that is not the bot's")
    _check_types(build)
    if not build.toolchain.versions.keys() <= set(form.packages):
        raise _odd(build, "names versions of packages that are not of its format")
    if not all(_VERSION.fullmatch(v) for v in (build.bot_version, *build.toolchain.versions.values())):
        raise _odd(build, "names a malformed version")
    try:
        created = dt.datetime.fromisoformat(build.created)
    except ValueError:
        created = None
    if created is None or created.tzinfo is None or created > now + _CLOCKS_DIFFER:
        raise _odd(build, f"was built at {build.created!r}, which is not in the past")


def _check_types(build: BuildRecord) -> None:
    chosen = build.types_by_cost
    if chosen is None:
        return
    if not recipes.chooses_types(build.variant):
        raise _odd(build, "has chosen types of tensors against its recipe")
    if chosen.own_kl is None and build.variant.size_limit is None:
        raise _odd(build, "does not say what the tool's own types cost")
    predicted = (chosen.predicted_kl, chosen.own_kl or 0.0, chosen.error)
    if not all(_LEAST_KL <= value <= _MOST_KL for value in predicted):
        raise _odd(build, "has chosen types of tensors by impossible figures")
    tensors = [name for names in chosen.types.values() for name in names]
    if not tensors or len(set(tensors)) != len(tensors):
        raise _odd(build, "has chosen types of no tensors, or of one twice")
    if not all(_TENSOR.fullmatch(name) for name in (*chosen.types, *tensors, chosen.own or "none")):
        raise _odd(build, "names a malformed tensor or type")


def check_size(build: BuildRecord, evidence: Evidence) -> None:
    """Refuse what would make a repo's record too large to be read again: all builds of the repo are in it."""
    size = sum(len(json.dumps(record.to_json())) for record in (build, evidence))
    if size > _LARGEST_RECORD:
        raise _odd(build, f"has records of {size} bytes: too large for a record")


def check_release(build: BuildRecord, hub: Hub, revision: str | None = None) -> Release:
    """Return the release that a build says it was made from, as the Hub has it. Raises PromotionError for another one.

    Its content must be what the repo has at ``revision`` (None: on its main branch). A commit alone says little: anyone
    can open a pull request on a public repo, and its commits are commits of that repo.

    An adapter's base is held against what the adapter leads to now, too.

    A folder of another machine is refused: nobody here can see what it holds.
    """
    if build.source.commit is None:
        raise PromotionError(
            f"{build.variant.name} was made from {build.source.label}, a folder of another machine",
            hint="Upload the model to the Hub, or publish where the folder is (`phi-bot publish`).",
        )
    current = hub.release(build.source.repo_id, revision)
    same = current.commit == build.source.commit
    release = current if same else hub.release(build.source.repo_id, build.source.commit)
    if release.content_digest != build.source.content_digest:
        raise _odd(build, f"was made from other content than {release.label} has")
    if current.content_digest != release.content_digest:
        where = f"at {revision}" if revision else "on its main branch"
        raise PromotionError(
            f"{release.label} is not what {release.repo_id} has {where}",
            hint="It is not published. The next run builds what the repo has now.",
        )
    return _with_base(build, release, hub)


def _with_base(build: BuildRecord, release: Release, hub: Hub) -> Release:
    """Return a release with the base, at the commit, that a build says it was merged into."""
    claimed, base = build.base, release.base
    if claimed is None and base is None:
        return release
    if claimed is None or base is None or claimed.commit is None or claimed.repo_id != base.repo_id:
        raise _odd(build, "says otherwise what it was merged into")
    if claimed.commit != base.commit:  # a commit since then, which changed nothing that counts
        base = hub.release(claimed.repo_id, claimed.commit)
    if base.content_digest != claimed.content_digest:
        raise _odd(build, f"was merged into other content than {base.label} has")
    return replace(release, base=base)


@dataclass(frozen=True, kw_only=True)
class Releases:
    """The releases that builds say they were made from, each asked for once: variants of a model share one."""

    hub: Hub
    _known: dict[tuple[str, ...], Release] = field(default_factory=dict, init=False, repr=False)

    def of(self, build: BuildRecord, revision: str | None = None) -> Release:
        """Return what ``check_release`` does, for builds of one content too. Raises what it raises."""
        key = (build.source.label, build.source.commit or "", (build.base and build.base.commit) or "")
        known = self._known.get(key)
        if known is None or known.content_digest != build.source.content_digest:
            known = self._known[key] = check_release(build, self.hub, revision)
        return known


def check_evidence(build: BuildRecord, evidence: Evidence, release: Release, config: Config) -> ProvenBuild:
    """Return a build with its evidence, judged by the gates here. Raises PromotionError when it does not pass."""
    row, form = _known(build)
    if build.variant != catalogue.decided(build.variant, release.parameters):
        raise _odd(build, "is of another precision than its size gives the model")
    if evidence.version != EVIDENCE_VERSION or evidence.build_key != build.build_key:
        raise _odd(build, "comes with evidence of something else")
    if evidence.reference_digest != reference.digest(release):
        raise _odd(build, "was compared with another reference than the one here")
    if (build.read_as, build.left_out) != (release.read_as, release.left_out):
        raise _odd(build, "says otherwise how its original was read")
    if evidence.known_behaviours != form.known_behaviours(release.config):
        raise _odd(build, "claims behaviours of its runtime that are not known of it")
    known = form.read_differently(release.config)
    if any(known.get(r.kind) != r.reference for r in evidence.read_differently):
        raise _odd(build, "claims that its runtime reads texts differently that it is not known for")
    names = [c.name for c in evidence.checks]
    if missing := [name for name in CHECKS if names.count(name) != 1]:
        raise _odd(build, f"has not been checked for: {', '.join(missing)}")
    sides = {d.side for d in evidence.recommended if d.tokens > 0 and d.figures.mean_kl >= _LEAST_KL}
    wanted = {"short", "long"} if evidence.deep and figures.switch(release) is not None else {"short"}
    if sides != wanted or len(evidence.recommended) != len(wanted):
        raise _odd(build, "has not been measured on the texts that it must be measured on")
    cost = evidence.rounding
    if cost is None or cost.tokens < 1 or min(cost.mean_kl, cost.plain_kl) < _LEAST_KL:
        raise _odd(build, "does not say what rounding cost beside plain rounding")
    judged = judge(evidence, config.times(row.precision))
    if not judged.passed:
        reasons = "; ".join(f"{c.name}: {c.detail}" for c in judged.checks if not c.passed)
        raise PromotionError(f"{row.name} is outside the gates: {reasons}", hint="It is not published.")
    return ProvenBuild(build=build, evidence=judged)


def check_files(
    build: BuildRecord, found: Mapping[str, SourceFile], *, repo_id: str, commit: str, hub: Hub
) -> dict[str, HubFile]:
    """Return the place of each file of a build on the Hub, after comparing sizes and hashes with what it should be.

    ``found`` are the files there by their paths in the artifact. The hash of a large file is the Hub's own; a small one
    is read. Raises PromotionError for a file that is missing, too many or another, and for one that asks for code.
    """
    wanted = {f.path: f for f in build.files}
    if odd := sorted(wanted.keys() ^ found.keys()):
        what = "is missing" if odd[0] in wanted else "was not there when it was built"
        raise _odd(build, f"is incomplete in {repo_id}: {odd[0]} {what}")
    for path, entry in wanted.items():
        there = found[path]
        content = None if there.is_lfs else hub.read(repo_id, commit, there)
        digest = there.digest if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"
        if (there.size, digest) != (entry.size, f"sha256:{entry.sha256}"):
            raise _odd(build, f"is not in {repo_id} as it was built: {path} has another size or sha256")
        if path.endswith(".json") and path.rsplit("/", 1)[-1] not in _VOCABULARIES:
            _check_config(build, path, hub.read(repo_id, commit, there) if content is None else content)
    return {path: HubFile(repo_id=repo_id, commit=commit, file=found[path]) for path in wanted}


def check_notices(
    found: Mapping[str, SourceFile], release: Release, *, repo_id: str, commit: str, hub: Hub
) -> dict[str, HubFile]:
    """Return where the licences lie, after comparing them with the release's own. Raises PromotionError.

    They are compared by the Hub's own hashes where both have one of the same kind, and otherwise read.
    """
    wanted = source.notices_of(release)
    for name, there in found.items():
        if name in wanted and (there.size, there.digest) == (wanted[name].size, wanted[name].digest):
            continue
        content = hub.read(repo_id, commit, there)
        if name not in wanted or source.bytes_digest(content, lfs=wanted[name].is_lfs) != wanted[name].digest:
            raise PromotionError(f"{name} is not that of {release.label}", hint="It is not published.")
    return {name: HubFile(repo_id=repo_id, commit=commit, file=file) for name, file in found.items()}


def bounded(prompt: Prompt) -> Prompt:
    """Return a prompt as a card may show it: without its text, if that is very long."""
    if len(prompt.text or "") + len(prompt.problem or "") <= _LONGEST_PROMPT:
        return prompt
    return replace(prompt, text=None, problem="its text is too long to show")


def _check_config(build: BuildRecord, path: str, content: bytes) -> None:
    try:
        value: Json = parse_object(content)
    except ValueError as error:
        raise _odd(build, f"has a file {path!r} that is not a JSON object") from error
    if asks_for_code(value):
        raise _odd(build, f"asks for code from elsewhere in {path!r}")


def _known(build: BuildRecord) -> tuple[Variant, Format]:
    row = catalogue.known(build.variant.name)
    if row is not None and row.size_limit is not None:  # of which model it is decides the rest: check_evidence
        row = replace(row, precision=build.variant.precision, bits_per_weight=build.variant.bits_per_weight)
    form = all_formats().get(build.variant.format)
    if form is None:
        raise PromotionError(f"{build.variant.name} is of an unknown format", hint="It is not published.")
    return row or build.variant, form


def _odd(build: BuildRecord, what: str) -> PromotionError:
    return PromotionError(
        f"{build.variant.name} of {build.source.label} {what}",
        hint="It is not published. Who can write where it was staged?",
    )


def _not_ours(build: BuildRecord, how: str) -> PromotionError:
    return PromotionError(
        f"{build.variant.name} of {build.source.label} was built {how}",
        hint="It is not published. Promote with the version of phi-bot that built it, or build it anew.",
    )
