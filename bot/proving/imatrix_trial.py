"""Trials: a variant built without an importance matrix and with one, both measured, and the better file kept.

The two builds are artifacts of keys of their own until one of them becomes the variant's: a bot that is killed while it
measures them has them still.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.building import reference
from bot.building.release_at_hand import AtHand
from bot.context import Context
from bot.errors import BuildError
from bot.formats import recipes
from bot.pages.numbers import nats
from bot.proving.verify_artifact import compare
from bot.records.artifacts import Failure, ImatrixTrial, Release
from bot.records.digests import digest_of
from bot.records.evidence import Evidence, is_judged
from bot.records.plans import PlannedVariant
from bot.toolchains.enter import WholeSourceError
from bot.workspace import read_artifact, write_json


def to_build(planned: PlannedVariant) -> tuple[PlannedVariant, ...]:
    """Return what is built for a variant: itself, or of one that is tried the builds without a matrix and with one."""
    if not recipes.is_tried(planned.variant):
        return (planned,)
    return tuple(
        replace(planned, variant=v, build_key=digest_of([planned.build_key, v.name]))
        for v in recipes.alternatives(planned.variant)
    )


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The inputs of deciding between two builds: the release that they were made from, and the context of the run."""

    release: Release
    given: AtHand
    context: Context

    def decide(self, planned: Iterable[PlannedVariant], failures: Sequence[Failure]) -> list[Failure]:
        """Make the artifact of each variant that was tried, and return what failed.

        Where the build with a matrix is the one that failed, where a check fails, and where nothing can be measured,
        the other one is kept: verifying says what is wrong with that. Raises what computing the reference raises, but
        for a BuildError.
        """
        failed = {f.variant: f for f in failures}
        for tried in (p for p in planned if recipes.is_tried(p.variant)):
            plain, weighted = to_build(tried)
            lost = failed.pop(weighted.variant.name, None)
            if self.context.workspace.has(self._folder(plain)):
                self._decide(tried, plain, weighted, lost)
            shutil.rmtree(self._folder(weighted), ignore_errors=True)
        return list(failed.values())

    def _decide(
        self, tried: PlannedVariant, plain: PlannedVariant, weighted: PlannedVariant, lost: Failure | None
    ) -> None:
        name = tried.variant.name
        if lost is not None:
            self.context.display.say(f"{name}: no importance matrix is tried: {lost.message}")
            self._keep(plain, tried, None)
            return
        try:
            evidence = self._measured(plain), self._measured(weighted)
        except WholeSourceError:
            raise
        except BuildError as error:
            self.context.display.say(
                f"{name}: no importance matrix is taken, as nothing can be measured: {error.message}"
            )
            self._keep(plain, tried, None)
            return
        trial = trial_of(*evidence)
        if trial is None:
            failed = ", ".join(dict.fromkeys(c for e in evidence for c in _failed(e))) or "they have no distance"
            self.context.display.say(f"{name}: no importance matrix is taken, as not both builds pass: {failed}")
        else:
            self.context.display.say(f"{name}: {trial_summary(trial)}")
        self._keep(weighted if trial is not None and trial.gains else plain, tried, trial)
        shutil.rmtree(self._folder(plain), ignore_errors=True)

    def _measured(self, planned: PlannedVariant) -> Evidence:
        """Return what is measured of a build, measuring it if that is not done yet."""
        artifact = read_artifact(self._folder(planned))
        known = artifact.evidence
        if known is not None and known.reference_digest == reference.digest(self.release):
            return known
        evidence = compare(artifact, self.release, self.given, self.context)
        write_json(self._folder(planned) / "evidence.json", evidence.to_json())
        return evidence

    def _keep(self, built: PlannedVariant, tried: PlannedVariant, trial: ImatrixTrial | None) -> None:
        """Make a build the artifact of the variant, with what was measured of it: verifying need not do so again."""
        artifact = read_artifact(self._folder(built))
        record = replace(artifact.build, build_key=tried.build_key, variant=tried.variant, imatrix_trial=trial)
        with self.context.workspace.scratch() as scratch:  # there, no folder is ever of two minds
            folder = self._folder(built).rename(scratch / "kept")
            write_json(folder / "build.json", record.to_json())
            if artifact.evidence is not None:
                evidence = replace(artifact.evidence, build_key=tried.build_key)
                write_json(folder / "evidence.json", evidence.to_json())
            folder.rename(self._folder(tried))

    def _folder(self, planned: PlannedVariant) -> Path:
        return self.context.workspace.artifact(planned.build_key, self.release)


def trial_of(plain: Evidence, weighted: Evidence) -> ImatrixTrial | None:
    """Return what measuring two builds shows; None where one fails a check or has no distance."""
    without, with_one = (next((d for d in e.recommended if d.side == "short"), None) for e in (plain, weighted))
    if without is None or with_one is None or _failed(plain) or _failed(weighted):
        return None
    return ImatrixTrial(
        without_kl=without.figures.mean_kl,
        without_error=without.standard_errors.mean_kl,
        with_kl=with_one.figures.mean_kl,
        with_error=with_one.standard_errors.mean_kl,
    )


def _failed(evidence: Evidence) -> list[str]:
    """Return the checks that a build fails, beside those of the policy: that is for verifying to apply."""
    return [c.name for c in evidence.checks if not c.passed and not is_judged(c.name)]


def trial_summary(trial: ImatrixTrial) -> str:
    """Say in a line what a trial showed."""
    before, after = nats(trial.without_kl), nats(trial.with_kl)
    if trial.gains:
        return f"an importance matrix lowers the KL from {before} to {after}, so it is used"
    return f"the KL is {after} with an importance matrix and {before} without, no clear gain, so it is not used"
