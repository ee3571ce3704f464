"""Where faulty files are made and verified, by the real toolchains and the real steps."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from bot import catalogue, source
from bot.cli.family_support import first_defaults
from bot.context import Context
from bot.errors import VerifyError
from bot.progress import Silent
from bot.proving.build_job import build_job
from bot.records.artifacts import Artifact, Variant
from bot.steps.plan import plan_releases
from bot.steps.watch import Reader
from bot.toolchains.install import ensure
from bot.workspace import SOLVED, hash_files, read_artifact, write_json
from tests.contexts import NOBODY, context_of
from tests.controls.faults import Fault
from tests.formats.hooks import Damage
from tests.proving.alone import verify
from tests.worker import running

THREADS = 2


def variant(format_name: str) -> Variant:
    """The default variant of a format, the first if there are several; of one without any, its first row."""
    return next(v for v in (*first_defaults(), *catalogue.all_variants().values()) if v.format == format_name)


def _changed(checkpoint: Path, folder: Path, change: Damage) -> Path:
    """Return a copy of a checkpoint in which something is changed."""
    shutil.copytree(checkpoint, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    change(folder)
    return folder


@dataclass(frozen=True)
class Bench:
    """A folder to work in. What is built in it is ``calibrated``, or not."""

    folder: Path
    calibrated: bool = False

    def _context(self) -> Context:
        return context_of(workspace=self.folder / "work", threads=THREADS)

    def _variant(self, format_name: str) -> Variant:
        row = variant(format_name)
        return running.with_own_types(row) if self.calibrated else row

    def healthy(self, checkpoint: Path, format_name: str) -> Artifact:
        """Build a checkpoint as it is; return the artifact, with its evidence. Raises VerifyError if it fails."""
        (job,) = plan_releases([Reader(hub=NOBODY).named(str(checkpoint))], [self._variant(format_name)]).jobs
        (artifact,) = build_job(job, self._context()).artifacts
        return verify(artifact, self._context())

    def failed_checks(self, fault: Fault, checkpoint: Path, format_name: str) -> dict[str, str]:
        """Return the checks that fail on a file with a fault, and what each says.

        A conversion that the toolchain itself refuses is said as the check "build".
        """
        if fault.prepare:
            checkpoint = self._prepared(checkpoint, fault.prepare)
        healthy = self.healthy(checkpoint, format_name)
        folder = self.folder / f"{format_name}-{fault.name.replace(' ', '-')}"
        shutil.copytree(healthy.folder, folder)
        (folder / "evidence.json").unlink()
        files = folder / "files"
        if fault.source:
            faulty = _changed(checkpoint, folder / "source", fault.source)
            shutil.rmtree(files)
            toolchain, row = ensure(format_name, Silent()), self._variant(format_name)
            model = source.safe_name(checkpoint.name)
            built = running.build(toolchain, faulty, [row], folder / "built", model=model, log=folder / "log")
            if built.failures:
                return {"build": next(iter(built.failures.values()))}
            if self.calibrated:  # what the fault has made of the weights was solved as well as any others
                running.solved_beside(built.folders[row.name]).replace(folder / SOLVED)
            built.folders[row.name].rename(files)
        else:
            fault.damage(format_name)(files)
        return self._failed(folder)

    def _prepared(self, checkpoint: Path, prepare: Damage) -> Path:
        """Return a checkpoint as it is prepared for a fault."""
        folder = self.folder / "prepared" / checkpoint.name
        return folder if folder.exists() else _changed(checkpoint, folder, prepare)

    def _failed(self, folder: Path) -> dict[str, str]:
        """Verify an artifact whose record takes its files for what was built."""
        artifact = read_artifact(folder)
        with Silent().task("hashing") as task:
            record = dataclasses.replace(artifact.build, files=hash_files(folder / "files", task))
        write_json(folder / "build.json", record.to_json())
        try:
            verify(read_artifact(folder), self._context())
        except VerifyError:
            evidence = read_artifact(folder).evidence
            assert evidence is not None
            return {c.name: c.detail for c in evidence.checks if not c.passed}
        return {}
