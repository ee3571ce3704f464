"""A variant that tries an importance matrix: what is measured decides which of its two builds is kept."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bot import catalogue
from bot.building import importance_matrix, reference
from bot.building.release_at_hand import AtHand
from bot.config import Config
from bot.errors import BuildError, DiskTooSmallError
from bot.formats import recipes
from bot.hub import client
from bot.hub.client import Hub
from bot.localhub import RunningHub
from bot.progress import Silent, Task
from bot.proving.build_job import build_job
from bot.proving.imatrix_trial import Trials, to_build, trial_of
from bot.proving.job_disk import streams
from bot.records.artifacts import Artifact, Failure, ImatrixTrial, Release, Variant
from bot.records.failures import failure
from bot.records.plans import Job, PlannedVariant
from bot.source import local_release
from bot.steps.plan import plan_releases
from bot.workspace import Workspace, read_artifact, write_json
from tests.contexts import context_of
from tests.formats import examples
from tests.proving.alone import verify
from tests.steps import proven

Q4_K_M, Q6_K, Q8_0 = (catalogue.all_variants()[f"gguf/{name}"] for name in ("q4_k_m", "q6_k", "q8_0"))


@dataclass
class Heard(Silent):
    """A display that remembers what was said, and the titles of what was begun. It may break off at one of them."""

    said: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    until: str = ""

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        if title == self.until:
            raise KeyboardInterrupt
        self.begun.append(title)
        with super().task(title) as task:
            yield task


# ---- deciding, on what was measured --------------------------------------------------------------------------------

RELEASE = examples.release(examples.PHI_4_MINI, 10**9)
(JOB,) = plan_releases([RELEASE], [recipes.with_trial(Q4_K_M)]).jobs
(TRIED,) = JOB.variants
PLAIN, WEIGHTED = to_build(TRIED)


def put(workspace: Workspace, planned: PlannedVariant, kl: float, *, passes: bool = True) -> None:
    """Leave a build of which a mean KL was measured, with a twentieth of it as its standard error."""
    made = proven.artifact(workspace.root / "made", RELEASE, "gguf/q4_k_m", kl=kl)
    assert made.evidence is not None
    checks = tuple(replace(c, passed=passes or c.name != "generation") for c in made.evidence.checks)
    folder = workspace.artifact(planned.build_key, RELEASE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made.folder, folder)
    matrix = proven.IMATRIX if recipes.needs_matrix(planned.variant) else None
    build = replace(made.build, build_key=planned.build_key, variant=planned.variant, imatrix=matrix)
    write_json(folder / "build.json", build.to_json())
    write_json(folder / "evidence.json", replace(made.evidence, checks=checks).to_json())


def decide(workspace: Workspace, *failures: Failure) -> tuple[list[Failure], str]:
    """Decide between the builds that are there; return what failed and what was said."""
    display = Heard()
    given = AtHand(folder=workspace.root)
    trials = Trials(release=RELEASE, given=given, context=context_of(workspace=workspace, display=display, threads=1))
    return trials.decide([TRIED], failures), "\n".join(display.said)


@pytest.mark.parametrize(
    ("without", "with_one", "kept", "said"),
    [
        (0.01, 0.008, True, "gguf/q4_k_m: an importance matrix lowers the KL from 0.0100 to 0.00800, so it is used"),
        (0.01, 0.0095, False, "the KL is 0.00950 with an importance matrix and 0.0100 without, no clear gain"),
        (0.01, 0.012, False, "no clear gain, so it is not used"),
    ],
)
def test_the_better_build_becomes_the_artifact(
    without: float, with_one: float, kept: bool, said: str, tmp_path: Path
) -> None:
    workspace = Workspace(root=tmp_path)
    put(workspace, PLAIN, without)
    put(workspace, WEIGHTED, with_one)
    failures, line = decide(workspace)
    assert failures == []
    assert said in line
    made = read_artifact(workspace.artifact(TRIED.build_key, RELEASE))
    assert made.build.variant == TRIED.variant
    assert made.build.imatrix == (proven.IMATRIX if kept else None)
    assert made.build.imatrix_trial == ImatrixTrial(
        without_kl=without, without_error=without / 20, with_kl=with_one, with_error=with_one / 20
    )
    assert made.evidence is not None
    assert made.evidence.build_key == made.build.build_key == TRIED.build_key
    assert made.evidence.recommended[0].figures.mean_kl == (with_one if kept else without)
    assert len(list((tmp_path / "artifacts").iterdir())) == 1, "the other build is gone"


def assert_kept_without_a_trial(workspace: Workspace) -> None:
    """The artifact is the build without a matrix, and says nothing of a trial."""
    made = read_artifact(workspace.artifact(TRIED.build_key, RELEASE))
    assert (made.build.imatrix, made.build.imatrix_trial) == (None, None)


@pytest.mark.parametrize("passes", [(True, False), (False, True)])
def test_where_a_build_fails_a_check_the_plain_one_is_kept(passes: tuple[bool, bool], tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    put(workspace, PLAIN, 0.01, passes=passes[0])
    put(workspace, WEIGHTED, 0.001, passes=passes[1])
    failures, line = decide(workspace)
    assert failures == []
    assert line == "gguf/q4_k_m: no importance matrix is taken, as not both builds pass: generation"
    assert_kept_without_a_trial(workspace)


def test_where_the_build_with_a_matrix_fails_the_other_one_is_kept(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    put(workspace, PLAIN, 0.01)
    lost = failure(RELEASE.label, WEIGHTED.variant.name, "build", BuildError("it is too much", hint=""))
    other = failure(RELEASE.label, "gguf/q8_0", "build", BuildError("it is too much", hint=""))
    failures, line = decide(workspace, lost, other)
    assert failures == [other]
    assert line == "gguf/q4_k_m: no importance matrix is tried: it is too much"
    assert_kept_without_a_trial(workspace)


def test_where_the_build_without_one_fails_the_variant_does(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    put(workspace, WEIGHTED, 0.01)
    lost = failure(RELEASE.label, PLAIN.variant.name, "build", BuildError("it is too much", hint=""))
    failures, line = decide(workspace, lost)
    assert (failures, line) == ([lost], "")
    assert lost.variant == TRIED.variant.name
    assert not list((tmp_path / "artifacts").iterdir())


def test_without_a_distance_there_is_no_trial(tmp_path: Path) -> None:
    one, other = (proven.artifact(tmp_path / str(kl), RELEASE, kl=kl).evidence for kl in (0.01, 0.001))
    assert one is not None
    assert other is not None
    assert trial_of(one, other) is not None
    assert trial_of(replace(one, distances=()), other) is None
    assert trial_of(one, replace(other, distances=())) is None


@pytest.mark.parametrize("left", ["part", "build"])
def test_files_left_by_a_killed_trial_need_no_more_room(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, size = Workspace(root=tmp_path), 1 << 20
    free = JOB.estimate.output + JOB.estimate.disk - size
    monkeypatch.setattr(Workspace, "free", lambda _: free)
    job = replace(JOB, release=replace(RELEASE, folder=str(tmp_path)))  # so that nothing is to be fetched
    with pytest.raises(DiskTooSmallError):
        streams(job, context_of(workspace=workspace))
    part = workspace.partial(WEIGHTED.build_key, RELEASE) / "x.gguf.part"
    file = part if left == "part" else workspace.artifact(PLAIN.build_key, RELEASE) / "files" / "x.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(range(256)) * (size // 256))
    assert not streams(job, context_of(workspace=workspace))


# ---- the whole way, in the toolchain -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """A working folder with the sample's reference in it, and what builds there."""

    workspace: Workspace
    release: Release
    hub: Hub

    def job(self, variants: Sequence[Variant]) -> Job:
        (job,) = plan_releases([self.release], variants).jobs
        return job

    def build(self, variants: Sequence[Variant], display: Silent) -> dict[str, Artifact]:
        report = build_job(
            self.job(variants), context_of(hub=self.hub, workspace=self.workspace, display=display, threads=2)
        )
        assert report.failures == ()
        return {a.build.variant.short_name: a for a in report.artifacts}

    def verify(self, artifact: Artifact, display: Silent) -> Artifact:
        config = Config()
        return verify(artifact, context_of(config, hub=self.hub, workspace=self.workspace, display=display, threads=2))


@pytest.fixture
def place(sample: Path, reference: Path, tmp_path: Path) -> Place:
    return place_of(tmp_path / "work", local_release(sample), client.connect("http://localhost:1", None), reference)


def place_of(folder: Path, release: Release, hub: Hub, known: Path) -> Place:
    workspace = Workspace(root=folder)
    there = workspace.reference(reference.digest(release))
    there.parent.mkdir(parents=True)
    shutil.copytree(known, there)
    return Place(workspace=workspace, release=release, hub=hub)


def content(artifact: Artifact) -> bytes:
    (file,) = (Path(artifact.folder) / "files").iterdir()
    return file.read_bytes()


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_the_file_kept_by_a_trial_is_that_of_a_plain_build(place: Place) -> None:
    display = Heard()
    made = place.build(recipes.configured([Q4_K_M, Q6_K, Q8_0], "measured"), display)
    alternatives = {v.short_name: recipes.alternatives(recipes.with_trial(v)) for v in (Q4_K_M, Q6_K)}
    plain = place.build([v for pair in alternatives.values() for v in pair], Silent())
    gained = {}
    for name, (without, with_one) in alternatives.items():
        build = made[name].build
        assert build.imatrix_trial is not None
        gained[name] = build.imatrix_trial.gains
        assert content(made[name]) == content(plain[with_one.short_name if gained[name] else without.short_name])
        assert (build.imatrix is not None) == gained[name]
        assert content(plain[without.short_name]) != content(plain[with_one.short_name])
    assert made["q8_0"].build.imatrix_trial is None
    assert sum("an importance matrix lowers the KL" in line for line in display.said) == sum(gained.values())

    again = Heard()
    for name in alternatives:
        evidence = place.verify(made[name], again).evidence
        assert evidence is not None
        assert evidence.passed
    assert again.begun == [], "what decided is the evidence"


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_a_bot_that_is_stopped_while_it_measures_builds_nothing_anew(place: Place) -> None:
    variants = recipes.configured([Q4_K_M], "measured")
    with pytest.raises(KeyboardInterrupt):
        place.build(variants, Heard(until="Verifying gguf/q4_k_m-imatrix"))
    display = Heard()
    made = place.build(variants, display)
    assert display.begun == ["Verifying gguf/q4_k_m-imatrix"]
    assert made["q4_k_m"].build.imatrix_trial is not None


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_weights_that_stream_give_the_same_file(hub: RunningHub, sample: Path, reference: Path, tmp_path: Path) -> None:
    connected = client.connect(hub.url, hub.token)
    files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
    with Silent().task("release") as task:
        connected.commit("microsoft/Phi-9", files=files, parent=None, message="Release", task=task)
    made = {}
    for source in ("kept", "streamed"):
        there = place_of(tmp_path / source, connected.release("microsoft/Phi-9"), connected, reference)
        job = replace(there.job(recipes.configured([Q4_K_M], "measured")), source=source)
        report = build_job(job, context_of(hub=connected, workspace=there.workspace, threads=2))
        (artifact,) = report.artifacts
        assert artifact.build.imatrix_trial is not None
        assert there.workspace.source(there.release).exists() == (source == "kept")
        made[source] = content(artifact), artifact.build.imatrix, artifact.build.imatrix_trial.gains
    assert made["streamed"] == made["kept"]


@pytest.mark.toolchain
@pytest.mark.usefixtures("warm_toolchains")
def test_where_no_matrix_can_be_measured_the_file_is_plain(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance_matrix, "importance", _refuses)
    display = Heard()
    made = place.build(recipes.configured([Q4_K_M], "measured"), display)
    assert display.said[-1:] == ["gguf/q4_k_m: no importance matrix is tried: the text is too short"]
    assert (made["q4_k_m"].build.imatrix, made["q4_k_m"].build.imatrix_trial) == (None, None)


def _refuses(*_: object, **__: object) -> Path:
    raise BuildError("the text is too short", hint="")
