"""Candidates: proven artifacts that are to be published, and where each of their files is at this moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bot.errors import VerifyError
from bot.hub.contents import Content
from bot.records.artifacts import Artifact, ProvenBuild, Release
from bot.source.prompt import Prompt
from bot.workspace import read_record, read_release

PROMPT_FILE = "prompt.json"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An artifact to publish, on this machine or on the Hub.

    ``files`` are its own by their paths in the artifact, ``notices`` the licences by their names.
    """

    proven: ProvenBuild
    release: Release
    prompt: Prompt
    files: Mapping[str, Content] = field(repr=False)
    notices: Mapping[str, Content] = field(repr=False)

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.proven.build.variant.name

    @property
    def source(self) -> str:
        """The id of the model that it was made from, as it was planned."""
        return self.proven.build.source.repo_id

    @property
    def build_key(self) -> str:
        """The build key."""
        return self.proven.build.build_key


def candidate_of(artifact: Artifact) -> Candidate:
    """Return an artifact of this machine as a candidate. Raises VerifyError without evidence that it passed."""
    folder = Path(artifact.folder)
    return Candidate(
        proven=_proven(artifact),
        release=read_release(folder),
        prompt=read_record(file, Prompt) if (file := folder / PROMPT_FILE).exists() else Prompt(),
        files={f.path: folder / "files" / f.path for f in artifact.build.files},
        notices={p.name: p for p in sorted((folder / "notices").glob("*"))},
    )


def _proven(artifact: Artifact) -> ProvenBuild:
    evidence = artifact.evidence
    if evidence is None or not evidence.passed or evidence.build_key != artifact.build.build_key:
        raise VerifyError(
            f"{artifact.build.variant.name} has no evidence that it passed",
            hint=f"Run `phi-bot verify {artifact.folder}` first.",
        )
    return ProvenBuild(build=artifact.build, evidence=evidence)
