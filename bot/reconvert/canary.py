"""The canary: both sides build and verify small models, each with its own code, and what came of it is read back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.errors import PhiBotError, UnsupportedArchitectureError
from bot.progress import Silent
from bot.reconvert import child, foreign
from bot.reconvert.child import ChildError, Code, StoppedError
from bot.reconvert.records import Figure, SideMeasurement
from bot.records.artifacts import BuildRecord, Report
from bot.records.digests import digest_of
from bot.records.evidence import Evidence, is_judged
from bot.workspace import hash_files

_STEP_SECONDS = 2700.0  # of building, or of verifying, all variants of one model
_SAMPLE_SECONDS = 1800.0
_REASON = 500  # characters


@dataclass(kw_only=True)
class Bench:
    """One side at work: its code, and the working folder of its own. Once ``stopped``, it is asked nothing more.

    Without a ``config`` it takes the phi-bot.toml of its folder.
    """

    code: Code
    work: Path
    config: Path | None = None
    proven: dict[tuple[str, str], Path] = field(default_factory=dict)  #: folders of artifacts, by model and variant
    stopped: str = ""

    def measure(
        self, model: str, source: Path, variants: Sequence[str], say: Callable[[str], None]
    ) -> dict[str, SideMeasurement]:
        """Build and verify variants of a model, and return what became of each. ``say`` is told what goes on."""
        if self.stopped:
            return {v: SideMeasurement(status="failed", reason=f"not tried: {self.stopped}") for v in variants}
        found: dict[str, SideMeasurement] = {}
        say(f"Building {len(variants)} variants of {model}")
        try:
            report = self._step("build", [str(source), *(a for v in variants for a in ("--variants", v))])
            folders = self._folders(model, report)
            say(f"Verifying {len(folders)} variants of {model}")
            verified = self._step("verify", [str(f) for f in folders.values()]) if folders else Report()
        except _RefusedError as refused:
            return {v: SideMeasurement(status="refused", reason=_reason(str(refused), source, model)) for v in variants}
        except ChildError as error:
            if isinstance(error, StoppedError):
                self.stopped = f"with {model}, {error}"
            return {v: SideMeasurement(status="failed", reason=_reason(str(error), source, model)) for v in variants}
        failures = {f.variant: f for f in (*report.failures, *verified.failures)}
        for name in variants:
            failed = failures.get(name)
            if name in folders:
                try:
                    found[name] = _measured(folders[name], failed.message if failed else "")
                    if found[name].status == "verified":
                        self.proven[model, name] = folders[name]
                except (ChildError, PhiBotError, OSError) as error:
                    found[name] = SideMeasurement(status="failed", reason=str(error)[:_REASON])
            elif failed is not None and failed.exit_code == UnsupportedArchitectureError.exit_code:
                found[name] = SideMeasurement(status="refused", reason=_reason(failed.message, source, model))
            else:
                why = failed.message if failed else "nothing was built, for an unknown reason"
                found[name] = SideMeasurement(status="failed", reason=_reason(why, source, model))
        return found

    def _step(self, step: str, arguments: Sequence[str]) -> Report:
        config = ["--config", str(self.config)] if self.config else []
        done = child.run(
            self.code,
            ["-m", "bot.cli", step, *arguments, *config, "--work", str(self.work), "--no-dry-run", "--json", "--quiet"],
            seconds=_STEP_SECONDS,
        )
        if done.stdout.strip():  # whatever its exit code: that of what failed is in there too
            return foreign.read(Report, done.stdout)
        if 20 <= done.returncode < 30:  # about the model itself (bot/errors.py): no variant can do better
            raise _RefusedError(child.failure_line(done))
        raise ChildError(child.failure_line(done))

    def _folders(self, model: str, report: Report) -> dict[str, Path]:
        """Return the folders of artifacts, by variant. Raises ChildError for one outside the working folder."""
        found = {a.build.variant.name: Path(a.folder).resolve() for a in report.artifacts}
        for folder in found.values():
            if not folder.is_relative_to(self.work.resolve()):
                raise ChildError(f"it names an artifact of {model} outside its working folder")
        return found


def _reason(text: str, source: Path, model: str) -> str:
    """Return what a side says, short, and with a model's name in place of where it lies here."""
    return text.replace(str(source), model)[:_REASON]


class _RefusedError(ChildError):
    """No toolchain reads the model."""


def make_sample(code: Code, folder: Path, family: str) -> None:
    """Make the sample checkpoint of a family in a new folder. Raises ChildError."""
    done = child.run(
        code, ["-m", "bot.cli", "sample", str(folder), "--family", family, "--quiet"], seconds=_SAMPLE_SECONDS
    )
    if done.returncode != 0:
        raise ChildError(child.failure_line(done))


def _measured(folder: Path, problem: str) -> SideMeasurement:
    """Read what a side measured on an artifact. Sizes and digests of its files are taken here."""
    build = foreign.read_file(BuildRecord, folder / "build.json")
    if (folder / "files").is_symlink():
        raise ChildError("its files are a link")
    with Silent().task("") as task:
        files = hash_files(folder / "files", task)
    evidence = foreign.read_file(Evidence, folder / "evidence.json") if (folder / "evidence.json").exists() else None
    failed = [c.name for c in evidence.checks if not c.passed] if evidence else []
    if not problem and evidence is not None and evidence.passed:
        status = "verified"
    elif failed and all(map(is_judged, failed)):
        status = "outside the gate"
    else:
        status, problem = "failed", problem or "it was not verified"
    return SideMeasurement.from_json(
        {
            "status": status,
            "reason": problem[:_REASON],
            "size": sum(f.size for f in files),
            "digest": digest_of([[f.path, f.sha256] for f in files]),
            "figures": [f.to_json() for f in _figures(evidence)],
            "build_seconds": build.cost.seconds,
            "verify_seconds": evidence.seconds if evidence else 0.0,
            "peak_memory": build.cost.peak_memory,
        }
    )


def _figures(evidence: Evidence | None) -> list[Figure]:
    return [
        Figure(
            side=d.side,
            mean_kl=d.figures.mean_kl,
            mean_kl_error=d.standard_errors.mean_kl,
            top1=d.figures.top1_agreement,
            top1_error=d.standard_errors.top1_agreement,
        )
        for d in (evidence.recommended if evidence else ())
    ]
