"""What is staged by one machine and published by another, which believes nothing that it can know."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bot import catalogue
from bot.config import Config
from bot.config.places import PublishTable
from bot.config.tables import BuildTable, CostTable, RunTable, VerifyTable, WatchTable
from bot.errors import ConfigError, ForeignRepoError
from bot.formats import recipes
from bot.hub import client
from bot.localhub import RunningHub
from bot.records.artifacts import (
    Artifact,
    Calibration,
    FileEntry,
    Imatrix,
    ImatrixTrial,
    Report,
    TypesByCost,
    Variant,
)
from bot.records.evidence import CHECKS, Check, KnownBehaviour
from bot.steps.promote import promote
from bot.steps.publish import publish
from bot.steps.stage import stage
from bot.workspace import Workspace, read_artifact, write_json
from tests.contexts import context_of
from tests.source import models
from tests.steps import proven
from tests.steps.test_publish import no_plots as no_plots

STAGING = "me/phi-bot-staging"
GGUF_REPO = "me/Phi-9-mini-GGUF"
GAIN = ImatrixTrial(without_kl=0.0066, without_error=0.0001, with_kl=0.006, with_error=0.0001)
NO_GAIN = replace(GAIN, with_kl=0.0065)
CALIBRATION = Calibration(text=recipes.TEXT, text_sha256=recipes.text_digest(), sha256="c" * 64, tokens=10752)
TYPES = TypesByCost(
    predicted_kl=0.056,
    own_kl=0.073,
    error=0.001,
    types={"Q4_K": ("blk.0.attn_qkv.weight",), "Q6_K": ("output",)},
)

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        watch=WatchTable(authors=("microsoft",)),
        build=BuildTable(work=tmp_path / "work"),
        publish=PublishTable(namespace="me"),
    )


@pytest.fixture
def api(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


class World:
    """A machine that stages and one that promotes."""

    def __init__(self, hub: RunningHub, config: Config, tmp_path: Path) -> None:
        self.hub, self.config, self.tmp_path = hub, config, tmp_path
        self.client = client.connect(hub.url, hub.token)
        self.release = proven.release(hub)
        self.artifacts: list[Artifact] = []

    def build(self, name: str = "gguf/q4_k_m", **how: Any) -> Artifact:
        return proven.artifact(self.tmp_path / "artifacts", self.release, name, **how)

    def stage(self, *artifacts: Artifact) -> Report:
        return stage(artifacts, context_of(self.config, hub=self.client))

    def promote(self, *models: str, config: Config | None = None) -> Report:
        config = config or self.config
        work = Workspace(root=config.build.work)
        return promote(models, context_of(config, workspace=work, hub=self.client))


@pytest.fixture
def world(hub: RunningHub, config: Config, tmp_path: Path) -> World:
    return World(hub, config, tmp_path)


def rewrite(artifact: Artifact, name: str, change: Callable[[dict[str, Any]], Any]) -> Artifact:
    """Change a record of an artifact, as whoever holds the builder could."""
    file = Path(artifact.folder) / name
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    write_json(file, value)
    return artifact


def why(report: Report) -> str:
    """Return why the only artifact was not published."""
    assert report.publications == ()
    (failure,) = report.failures
    return failure.message


# ---- the honest way ------------------------------------------------------------------------------------------


def test_staged_artifacts_are_published_as_if_they_had_been_published_at_once(world: World, api: HfApi) -> None:
    artifacts = [world.build(name, kl=0.001) for name in ("gguf/q4_k_m", "gguf/q8_0", "onnx/cpu-int4")]
    staged = world.stage(*artifacts)
    assert {s.build.variant.name for s in staged.staged} == {"gguf/q4_k_m", "gguf/q8_0", "onnx/cpu-int4"}
    assert not api.repo_exists(GGUF_REPO)

    report = world.promote()
    assert report.failures == ()
    assert [p.repo_id for p in report.publications] == [GGUF_REPO, "me/Phi-9-mini-onnx"]
    assert len(api.list_repo_commits(GGUF_REPO)) == 2  # that which made the repo, and one for all files

    promoted = {n: api.list_repo_files(n) for n in (GGUF_REPO, "me/Phi-9-mini-onnx")}
    card = client.connect(world.hub.url, world.hub.token).read_files(GGUF_REPO, ("README.md", "phi-bot.json"))
    for repo_id in promoted:
        api.delete_repo(repo_id)
    at_once = publish(
        artifacts, context_of(namespace="me", workspace=Workspace(root=world.config.build.work), hub=world.client)
    )
    assert at_once.failures == ()
    assert {n: api.list_repo_files(n) for n in promoted} == promoted
    again = client.connect(world.hub.url, world.hub.token).read_files(GGUF_REPO, ("README.md", "phi-bot.json"))
    assert card is not None
    assert again is not None
    assert again[0] == card[0]


def test_promoting_again_does_nothing_and_staging_removes_published_artifacts(world: World, api: HfApi) -> None:
    world.stage(world.build())
    first = world.promote().publications[0]
    assert world.promote().publications == ()
    assert api.model_info(GGUF_REPO).sha == first.commit
    (second,) = world.stage(world.build("gguf/q8_0")).staged
    folders = {f.partition("/")[0] for f in api.list_repo_files(STAGING) if "/" in f}
    assert folders == {second.folder}


def test_staged_twice_there_is_one_commit(world: World, api: HfApi) -> None:
    artifact = world.build()
    first, second = world.stage(artifact), world.stage(artifact)
    assert first.staged == second.staged
    assert len(api.list_repo_commits(STAGING)) == 2


def test_nothing_staged_is_nothing_to_promote(world: World) -> None:
    assert world.promote() == Report()


def test_a_forged_artifact_holds_up_no_other(world: World) -> None:
    bad = rewrite(world.build("gguf/q8_0"), "build.json", lambda b: b["toolchain"].update(lock_digest="0" * 64))
    world.stage(world.build(), proven_again(bad))
    report = world.promote()
    assert [b.build.variant.name for p in report.publications for b in p.builds] == ["gguf/q4_k_m"]
    assert [f.variant for f in report.failures] == ["gguf/q8_0"]
    assert "another toolchain" in report.failures[0].message


def test_in_a_dry_run_all_is_checked_and_nothing_published(world: World, api: HfApi) -> None:
    world.stage(world.build())
    assert world.promote(config=replace(world.config, run=RunTable(dry_run=True))) == Report()
    assert not api.repo_exists(GGUF_REPO)


# ---- what a machine that was taken over could try --------------------------------------------------------------


def proven_again(artifact: Artifact) -> Artifact:
    """Return an artifact as its own files say it now."""
    return read_artifact(Path(artifact.folder))


def alter(world: World, record: str, change: Callable[[dict[str, Any]], Any]) -> str:
    """Stage an artifact with a record that was changed, and return why it is not published."""
    world.stage(proven_again(rewrite(world.build(), record, change)))
    return why(world.promote())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b["variant"]["options"].update(type="Q2_K"), "another recipe"),
        (lambda b: b["variant"].update(summary="The best of all."), "another recipe"),
        (lambda b: b["toolchain"].update(lock_digest="0" * 64), "another toolchain"),
        (lambda b: b["toolchain"].update(versions={"torch": "2<script>"}), "a malformed version"),
        (lambda b: b["toolchain"].update(versions={"evil": "1"}), "not of its format"),
        (lambda b: b.update(path_in_repo="docs"), "does not put it"),
        (lambda b: b.update(created="2999-01-01T00:00:00+00:00"), "not in the past"),
        (lambda b: b.update(created="yesterday"), "not in the past"),
        (lambda b: b.update(bot_version="1.0\n- evil"), "a malformed version"),
        (lambda b: b["source"].update(content_digest="0" * 64), "another build key"),
        (lambda b: b["source"].update(repo_id="evil/Phi-9-mini"), "not a model that is watched"),
        (lambda b: b["files"].clear(), "names no files"),
        (lambda b: b["files"].append(dict(b["files"][0])), "names no files, or one twice"),
    ],
)
def test_a_build_that_is_not_ours(world: World, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    assert reason in alter(world, "build.json", change)


def test_an_artifact_with_an_importance_matrix_is_promoted_with_its_name(world: World) -> None:
    world.stage(world.build("gguf/q2_k"))
    ((published,),) = (p.builds for p in world.promote().publications)
    assert published.build.imatrix == proven.IMATRIX


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("gguf/q2_k", lambda b: b.update(imatrix=None), "against its recipe"),
        ("gguf/q4_k_m", lambda b: b.update(imatrix=proven.IMATRIX.to_json()), "against its recipe"),
        ("gguf/q2_k", lambda b: b["imatrix"].update(text_sha256="0" * 64), "of another text"),
        ("gguf/q2_k", lambda b: b["imatrix"].update(text="<script>"), "not the bot's"),
        ("gguf/q4_k_m", lambda b: b.update(imatrix_trial=GAIN.to_json()), "against its recipe"),
    ],
)
def test_an_importance_matrix_that_is_not_ours(
    world: World, name: str, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    world.stage(proven_again(rewrite(world.build(name), "build.json", change)))
    assert reason in why(world.promote())


def calibrated(build: dict[str, Any], **changes: object) -> None:
    """Make a build a calibrated one."""
    variant = recipes.with_calibration(Variant.from_json(build["variant"]))
    build |= {
        "variant": variant.to_json(),
        "build_key": recipes.key_of(build["source"]["content_digest"], variant),
        "calibration": CALIBRATION.to_json() | changes,
    }


def test_a_calibrated_artifact_is_promoted_with_the_text_that_it_was_calibrated_on(world: World) -> None:
    world.stage(with_its_key(rewrite(world.build("mlx/4bit"), "build.json", calibrated)))
    ((published,),) = (p.builds for p in world.promote().publications)
    assert published.build.calibration == CALIBRATION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.update(calibration=CALIBRATION.to_json()), "against its recipe"),
        (lambda b: b.update(variant=recipes.with_calibration(Variant.from_json(b["variant"])).to_json()), "its recipe"),
        (lambda b: calibrated(b, text_sha256="0" * 64), "on another text"),
        (lambda b: calibrated(b, text="<script>"), "not the bot's"),
    ],
)
def test_a_calibration_that_is_not_ours(world: World, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    world.stage(with_its_key(rewrite(world.build("mlx/4bit"), "build.json", change)))
    assert reason in why(world.promote())


def chosen(build: dict[str, Any], **changes: object) -> None:
    """Make a build one whose types were chosen by what they cost."""
    calibrated(build)
    build["types_by_cost"] = TYPES.to_json() | changes


def test_an_artifact_of_chosen_types_is_promoted_with_them(world: World) -> None:
    world.stage(with_its_key(rewrite(world.build("gguf/q4_k_m"), "build.json", chosen)))
    ((published,),) = (p.builds for p in world.promote().publications)
    assert published.build.types_by_cost == TYPES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.update(types_by_cost=TYPES.to_json()), "against its recipe"),
        (lambda b: chosen(b, predicted_kl=-1.0), "impossible figures"),
        (lambda b: chosen(b, types={}), "of no tensors"),
        (lambda b: chosen(b, types={"Q4_K": ["a"], "Q6_K": ["a"]}), "of one twice"),
        (lambda b: chosen(b, types={"Q4_K": ["<script>"]}), "a malformed tensor or type"),
        (lambda b: chosen(b, types={"[Q4_K](x)": ["a"]}), "a malformed tensor or type"),
    ],
)
def test_types_that_are_not_ours(world: World, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    world.stage(with_its_key(rewrite(world.build("gguf/q4_k_m"), "build.json", change)))
    assert reason in why(world.promote())


def fitted(build: dict[str, Any], weights: int, size: str = "1MB", **changes: object) -> None:
    """Make a build one under a size, of a model of so many weights."""
    variant = catalogue.decided(catalogue.select([f"gguf/fit:{size}"])[0], weights)
    build["variant"] = variant.to_json() | changes
    chosen(build, own="Q4_K_M")


def test_an_artifact_under_a_size_is_promoted_with_the_precision_that_the_size_gives(world: World) -> None:
    weights = world.release.parameters
    world.stage(with_its_key(rewrite(world.build(), "build.json", lambda b: fitted(b, weights))))
    ((published,),) = (p.builds for p in world.promote().publications)
    assert published.build.variant.name == "gguf/fit:1MB"
    assert published.build.variant.bits_per_weight == round(8e6 / weights, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b, n: fitted(b, 7 * n), "of another precision than its size gives"),
        (lambda b, n: fitted(b, n, name="gguf/fit:1000kB"), "does not have"),
        (lambda b, n: fitted(b, n, name="gguf/fit:1000MB"), "another recipe"),
        (lambda b, n: fitted(b, n, name="gguf/fit:2MB"), "another recipe"),
        (lambda b, n: fitted(b, n, size="0.00001MB"), "and may have 10"),
        (lambda b, _: chosen(b, own_kl=None), "does not say what the tool's own types cost"),
    ],
)
def test_a_size_that_is_not_ours(world: World, change: Callable[[dict[str, Any], int], Any], reason: str) -> None:
    world.stage(with_its_key(rewrite(world.build(), "build.json", lambda b: change(b, world.release.parameters))))
    assert reason in why(world.promote())


def with_its_key(artifact: Artifact) -> Artifact:
    """Return an artifact with the evidence of the build that it claims to be."""
    key = proven_again(artifact).build.build_key
    return proven_again(rewrite(artifact, "evidence.json", lambda e: e.update(build_key=key)))


def tried(build: dict[str, Any], trial: ImatrixTrial | None, imatrix: Imatrix | None) -> None:
    """Make a build one that tried an importance matrix."""
    variant = recipes.with_trial(Variant.from_json(build["variant"]))
    build |= {
        "variant": variant.to_json(),
        "build_key": recipes.key_of(build["source"]["content_digest"], variant),
        "imatrix": imatrix and imatrix.to_json(),
        "imatrix_trial": trial and trial.to_json(),
    }


@pytest.mark.parametrize(("trial", "imatrix"), [(GAIN, proven.IMATRIX), (NO_GAIN, None), (None, None)])
def test_an_artifact_that_tried_an_importance_matrix_is_promoted_with_the_result(
    world: World, trial: ImatrixTrial | None, imatrix: Imatrix | None
) -> None:
    world.stage(try_one(world, trial, imatrix))
    ((published,),) = (p.builds for p in world.promote().publications)
    assert (published.build.imatrix_trial, published.build.imatrix) == (trial, imatrix)


@pytest.mark.parametrize(
    ("trial", "imatrix", "reason"),
    [
        (NO_GAIN, proven.IMATRIX, "against its trial"),
        (GAIN, None, "against its trial"),
        (None, proven.IMATRIX, "against its trial"),
        (replace(GAIN, without_kl=1e6), proven.IMATRIX, "impossible figures"),
        (replace(NO_GAIN, with_error=-1.0), None, "impossible figures"),
    ],
)
def test_a_trial_that_contradicts_its_result_is_refused(
    world: World, trial: ImatrixTrial | None, imatrix: Imatrix | None, reason: str
) -> None:
    world.stage(try_one(world, trial, imatrix))
    assert reason in why(world.promote())


def try_one(world: World, trial: ImatrixTrial | None, imatrix: Imatrix | None) -> Artifact:
    return with_its_key(rewrite(world.build(), "build.json", lambda b: tried(b, trial, imatrix)))


@pytest.mark.parametrize(
    "name",
    [
        "README.md.gguf/../x.gguf",
        "..\\x.gguf",
        "con.gguf",
        "x.py",
        "phi-bot.json",
        "phi-bot.intoto.jsonl",
        "README.md",
        "model.bin",
    ],
)
def test_a_file_that_no_artifact_of_the_format_has(world: World, name: str) -> None:
    artifact = world.build()
    content = b"evil"
    entry = FileEntry(path="placeholder.gguf", size=4, sha256=hashlib.sha256(content).hexdigest()).to_json()
    folder = world.stage(artifact).staged[0].folder
    build = json.loads((Path(artifact.folder) / "build.json").read_text())
    build["files"].append(entry | {"path": name})
    api = HfApi(endpoint=world.hub.url, token=world.hub.token)
    api.upload_file(repo_id=STAGING, path_in_repo=f"{folder}/build.json", path_or_fileobj=json.dumps(build).encode())
    assert name.rsplit("/", 1)[-1].split("\\")[-1] in why(world.promote()).replace("\\\\", "\\")


def test_a_release_that_the_hub_does_not_have(world: World) -> None:
    reason = alter(world, "build.json", lambda b: b["source"].update(commit="0" * 40))
    assert "holds another build" in reason or "0000000" in reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e.update(build_key="0" * 64), "has no evidence that it passed"),
        (lambda e: e.update(reference_digest="0" * 64), "another reference"),
        (lambda e: e["checks"].pop(CHECKS.index("rotary")), "has not been checked for: rotary"),
        (lambda e: e["checks"].append(e["checks"][0]), "has not been checked for: integrity"),
        (lambda e: e["distances"].clear(), "has not been measured"),
        (lambda e: e["distances"][0].update(tokens=0), "has not been measured"),
        (lambda e: e["distances"][0]["figures"].update(mean_kl=-1.0), "has not been measured"),
        (lambda e: e["distances"][0]["figures"].update(mean_kl=0.5), "outside the gates"),
        (lambda e: e.update(rounding=None), "does not say what rounding cost"),
        (lambda e: e["rounding"].update(tokens=0), "does not say what rounding cost"),
        (lambda e: e["rounding"].update(plain_kl=-1.0), "does not say what rounding cost"),
        (lambda e: e["rounding"].update(mean_kl=0.5), "outside the gates"),
        (
            lambda e: e.update(known_behaviours=[KnownBehaviour(name="n", side="short", reference="r").to_json()]),
            "known",
        ),
        (lambda e: e.update(read_differently=[{"kind": "all", "differing": 1, "texts": 1, "reference": "r"}]), "known"),
    ],
)
def test_evidence_that_proves_nothing(world: World, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    artifact = world.build()
    rewrite(artifact, "evidence.json", change)
    report = world.stage(proven_again(artifact))
    if report.staged:
        report = world.promote()
    assert reason in why(report)


def test_a_line_on_the_original_that_this_machine_would_not_say(world: World) -> None:
    artifact = world.build()
    rewrite(artifact, "build.json", lambda b: b.update(read_as="it is a Phi, believe me"))
    report = world.stage(proven_again(artifact))
    if report.staged:
        report = world.promote()
    assert "says otherwise how its original was read" in why(report)


LORA = "someone/Phi-9-mini"


@pytest.fixture
def adapted(world: World) -> World:
    """The world where what is built is an adapter of the model."""
    world.release = proven.adapter(world.hub, LORA)
    return world


def test_an_adapter_is_promoted_with_its_base(adapted: World, api: HfApi) -> None:
    assert adapted.release.base is not None
    first = adapted.release.base.commit
    adapted.stage(adapted.build())
    api.upload_file(repo_id=proven.MODEL, path_in_repo="README.md", path_or_fileobj=b"# Words that change nothing")
    report = adapted.promote(LORA)
    assert report.failures == ()
    [published] = report.publications
    base = published.builds[0].build.base
    assert base is not None
    assert (base.repo_id, base.commit) == (proven.MODEL, first)
    card = Path(api.hf_hub_download(GGUF_REPO, "README.md")).read_text(encoding="utf-8")
    assert f"{proven.MODEL}/tree/{first}" in card
    assert f"{LORA}/tree/{adapted.release.commit}" in card


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda base: None, "says otherwise what it was merged into"),
        (lambda base: base | {"repo_id": LORA}, "says otherwise what it was merged into"),
        (lambda base: base | {"commit": None}, "says otherwise what it was merged into"),
        (lambda base: base | {"content_digest": "0" * 64}, "was merged into other content"),
    ],
)
def test_a_base_that_it_was_not_merged_into(adapted: World, change: Callable[[Any], Any], reason: str) -> None:
    artifact = adapted.build()
    rewrite(artifact, "build.json", lambda b: b.update(base=change(b["base"])))
    report = adapted.stage(proven_again(artifact))
    if report.staged:
        report = adapted.promote(LORA)
    assert reason in why(report)


def test_a_base_that_has_changed_meanwhile_is_not_published(adapted: World, api: HfApi) -> None:
    adapted.stage(adapted.build())
    api.upload_file(repo_id=proven.MODEL, path_in_repo="generation_config.json", path_or_fileobj=b'{"max_length": 9}')
    assert "was made from other content" in why(adapted.promote(LORA))


@pytest.mark.parametrize("deep", [True, False])
def test_past_a_switch_a_file_is_measured_that_says_it_was_read_so_far(world: World, *, deep: bool) -> None:
    factors = {"type": "longrope", "long_factor": [2.0] * 2, "short_factor": [1.0] * 2}
    positions = {"original_max_position_embeddings": 4096, "max_position_embeddings": 131072}
    config = json.dumps(models.CONFIG | positions | {"rope_scaling": factors}).encode()
    world.release = proven.release(world.hub, "microsoft/Phi-9-long", config__json=config)
    told = rewrite(world.build(), "evidence.json", lambda e: e.update(deep=deep))
    world.stage(proven_again(told))
    report = world.promote()
    assert len(report.publications) == (1 if deep else 0)
    assert deep or "has not been measured" in why(report)


def test_the_gates_are_those_of_who_promotes(world: World) -> None:
    world.stage(world.build(kl=0.1))
    strict = replace(world.config, verify=VerifyTable(cost=CostTable(int4=0.5)))
    assert "of poor quality for its bits" in why(world.promote(config=strict))
    assert world.promote().failures == ()


def test_a_check_that_failed_is_not_talked_away(world: World) -> None:
    failed = Check(name="weights", passed=False, detail="one row is another").to_json()
    artifact = rewrite(world.build(), "evidence.json", lambda e: e["checks"].__setitem__(7, failed))
    assert "no evidence that it passed" in why(world.stage(proven_again(artifact)))


def test_a_file_that_was_exchanged_after_verifying(world: World, api: HfApi) -> None:
    folder = world.stage(world.build()).staged[0].folder
    path = f"{folder}/files/Phi-9-mini-q4_k_m.gguf"
    api.upload_file(repo_id=STAGING, path_in_repo=path, path_or_fileobj=b"The weights of q4_k_X.")
    assert "has another size or sha256" in why(world.promote())


def test_a_file_that_was_added_or_taken_away(world: World, api: HfApi) -> None:
    folder = world.stage(world.build()).staged[0].folder
    api.upload_file(repo_id=STAGING, path_in_repo=f"{folder}/files/more.gguf", path_or_fileobj=b"more")
    assert "more.gguf was not there when it was built" in why(world.promote())
    api.delete_file(repo_id=STAGING, path_in_repo=f"{folder}/files/more.gguf")
    api.delete_file(repo_id=STAGING, path_in_repo=f"{folder}/files/Phi-9-mini-q4_k_m.gguf")
    assert "is missing" in why(world.promote())


def test_a_licence_that_is_not_the_models_own(world: World) -> None:
    artifact = world.build()
    (Path(artifact.folder) / "notices" / "LICENSE").write_bytes(b"Public domain, all of it.\n")
    world.stage(artifact)
    assert why(world.promote()).startswith("LICENSE is not that of microsoft/Phi-9-mini")


def test_a_configuration_that_asks_for_code(world: World) -> None:
    artifact = world.build("mlx/4bit")
    content = json.dumps({"auto_map": {"AutoModel": "evil/repo--modeling.Model"}}).encode()
    (Path(artifact.folder) / "files" / "config.json").write_bytes(content)

    def change(build: dict[str, Any]) -> None:
        entry = next(f for f in build["files"] if f["path"] == "config.json")
        entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    world.stage(proven_again(rewrite(artifact, "build.json", change)))
    assert "asks for code" in why(world.promote())


def test_a_folder_under_the_name_of_another_build(world: World, api: HfApi) -> None:
    first = world.stage(world.build()).staged[0].folder
    second = world.stage(world.build("gguf/q8_0")).staged[0].folder
    for name in ("build.json", "evidence.json"):
        content = api.hf_hub_download(STAGING, f"{first}/{name}")
        api.upload_file(repo_id=STAGING, path_in_repo=f"{second}/{name}", path_or_fileobj=content)
    report = world.promote()
    assert [f.message for f in report.failures] == [f"{second} of {STAGING} holds another build"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"version": 1}', b"[" * 100_000])
@pytest.mark.parametrize("name", ["build.json", "evidence.json", "prompt.json"])
def test_a_record_that_is_none(world: World, api: HfApi, name: str, content: bytes) -> None:
    folder = world.stage(world.build()).staged[0].folder
    api.upload_file(repo_id=STAGING, path_in_repo=f"{folder}/{name}", path_or_fileobj=content)
    assert f"{name} of {STAGING}" in why(world.promote())


def test_a_model_that_nobody_watches_is_published_only_by_its_name(world: World) -> None:
    world.stage(world.build())
    other = replace(world.config, watch=WatchTable(authors=("someone",)))
    assert "not a model that is watched here" in why(world.promote(config=other))
    assert world.promote("microsoft/Phi-9-mini", config=other).failures == ()


def test_a_long_prompt_is_left_out_of_the_card(world: World, api: HfApi) -> None:
    artifact = rewrite(world.build(), "prompt.json", lambda p: p.update(text="a" * 30_000))
    world.stage(artifact)
    world.promote()
    assert "too long to show" in Path(api.hf_hub_download(GGUF_REPO, "README.md")).read_text(encoding="utf-8")


# ---- repos of others ---------------------------------------------------------------------------------------------


def test_a_repo_with_something_else_is_not_a_staging_repo(world: World, api: HfApi) -> None:
    api.create_repo(STAGING)
    api.upload_file(repo_id=STAGING, path_in_repo="model.safetensors", path_or_fileobj=b"mine")
    assert "did not put there" in why(world.stage(world.build()))
    with pytest.raises(ForeignRepoError):
        world.promote()
    assert api.list_repo_files(STAGING) == [".gitattributes", "model.safetensors"]


def test_a_repo_without_a_record_of_ours_is_never_overwritten(world: World, api: HfApi) -> None:
    api.create_repo(GGUF_REPO)
    api.upload_file(repo_id=GGUF_REPO, path_in_repo="mine.gguf", path_or_fileobj=b"mine")
    world.stage(world.build())
    assert "did not put there" in why(world.promote())
    assert api.list_repo_files(GGUF_REPO) == [".gitattributes", "mine.gguf"]


def test_a_model_that_not_everybody_may_read_is_not_staged_where_everybody_can(
    hub: RunningHub, config: Config, tmp_path: Path, api: HfApi
) -> None:
    world = World(hub, config, tmp_path)
    api.create_repo(STAGING, private=False)
    world.release = replace(world.release, gated=True)
    assert "can be read by everybody" in why(world.stage(world.build()))
    api.update_repo_settings(STAGING, private=True)
    assert world.stage(world.build("gguf/q8_0")).failures == ()


def test_a_folder_of_this_machine_is_not_staged(world: World) -> None:
    world.release = replace(world.release, repo_id="local/Phi-9-mini", commit=None)
    assert "is a folder of this machine" in why(world.stage(world.build()))


def test_without_a_namespace_nothing_is_staged_or_promoted(world: World) -> None:
    world.config = replace(world.config, publish=PublishTable())
    with pytest.raises(ConfigError, match="no namespace"):
        world.stage(world.build())
    with pytest.raises(ConfigError, match="no namespace"):
        world.promote()
