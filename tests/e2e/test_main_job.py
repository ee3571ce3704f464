"""The main job: a release goes in, proven repos come out."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bot import catalogue
from bot.checking.repo import check
from bot.errors import IncompleteError
from bot.hub import client
from bot.progress import Silent
from bot.records.artifacts import RepoRecord, Report
from bot.records.evidence import Evidence
from bot.records.plans import Plan
from tests.e2e.world import MODEL, World

pytestmark = pytest.mark.toolchain


def api(world: World) -> HfApi:
    return HfApi(endpoint=world.hub.url, token=world.hub.token)


def test_every_default_variant_is_published_with_evidence(published: Report) -> None:
    builds = [b for p in published.publications for b in p.builds]
    assert {b.build.variant.name for b in builds} == {v.name for v in catalogue.select(["default"])}
    assert {b.build.variant.format for b in builds} == {"gguf", "mlx", "onnx", "openvino"}
    for proven in builds:
        assert proven.evidence.passed
        assert {d.side for d in proven.evidence.distances} == {"short", *(["long"] if proven.evidence.deep else [])}
    assert sorted(b.build.variant.format for b in builds if b.evidence.deep) == ["gguf", "mlx", "onnx", "openvino"]
    assert published.failures == ()


def test_a_repo_is_made_by_one_commit_of_files_card_and_record(published: Report, world: World) -> None:
    for publication in published.publications:
        commits = api(world).list_repo_commits(publication.repo_id)
        assert [c.title for c in commits[1:]] == ["initial commit"]
        assert commits[0].commit_id == publication.commit
        files = set(api(world).list_repo_files(publication.repo_id))
        assert {"README.md", "phi-bot.json", "LICENSE", "quality.png"} <= files
        for proven in publication.builds:
            prefix = f"{proven.build.path_in_repo}/" if proven.build.path_in_repo else ""
            assert {prefix + f.path for f in proven.build.files} <= files


def test_nothing_that_is_published_contradicts_itself_or_its_original(published: Report, world: World) -> None:
    """Of real files: what llama.cpp's converter writes is read as what the original says."""
    hub = client.connect(world.hub.url, world.hub.token)
    for publication in published.publications:
        report = check(publication.repo_id, None, hub, None, Silent())
        assert report.contradicted == ()
        proven = {f.about for f in report.findings if f.outcome == "proven"}
        assert proven >= {"record", "files", "statements", "source"}
        if publication.builds[0].build.variant.format == "gguf":
            assert proven >= {"base model", "prompt", "stop tokens", "vocabulary", "rotary angles"}


def test_the_record_holds_the_hashes_of_the_hub(published: Report, world: World) -> None:
    for publication in published.publications:
        info = api(world).model_info(publication.repo_id, files_metadata=True)
        on_hub = {s.rfilename: s for s in info.siblings or []}
        text = hf_hub_download(publication.repo_id, "phi-bot.json", endpoint=world.hub.url, token=world.hub.token)
        record = RepoRecord.from_json(json.loads(Path(text).read_text()))
        assert len(record.builds) == len(publication.builds)
        for proven in record.builds:
            assert proven.build.source.repo_id == MODEL
            assert proven.build.source.commit == api(world).model_info(MODEL).sha
            for file in proven.build.files:
                path = "/".join(filter(None, (proven.build.path_in_repo, file.path)))
                found = on_hub[path]
                assert found.size == file.size
                if found.lfs:
                    assert found.lfs.sha256 == file.sha256


def test_a_card_says_where_its_files_come_from(published: Report, world: World) -> None:
    for publication in published.publications:
        info = api(world).model_info(publication.repo_id)
        assert info.card_data is not None
        assert info.card_data["base_model"] == MODEL
        assert info.card_data["base_model_relation"] == "quantized"
        assert info.card_data["license"] == "mit"
        assert info.pipeline_tag == "text-generation"


def test_run_again_it_converts_nothing_and_says_so(published: Report, world: World) -> None:
    heads = {p.repo_id: api(world).model_info(p.repo_id).sha for p in published.publications}
    started = time.monotonic()
    again = world.phi_bot("run")
    assert again.returncode == 0
    assert f"Nothing to convert: {sum(len(p.builds) for p in published.publications)} variants" in again.stdout
    assert time.monotonic() - started < 60
    assert heads == {r: api(world).model_info(r).sha for r in heads}


def test_another_machine_finds_nothing_to_do_either(published: Report, new_world: Callable[[str], World]) -> None:
    other = new_world("demo")  # an empty working folder: what is published is the state
    assert other.run() == Report()
    assert not (other.folder / "work" / "artifacts").exists()


def test_each_step_alone_takes_the_output_of_the_one_before_it(new_world: Callable[[str], World]) -> None:
    world = new_world("steps")

    def step(*arguments: str, to: str) -> str:
        done = world.phi_bot(*arguments, "--json", "--quiet")
        assert done.returncode == 0, done.stderr
        (world.folder / to).write_text(done.stdout)
        return done.stdout

    step("watch", to="releases.json")
    plan = step("plan", "--releases", "releases.json", "--variants", "gguf/q8_0,mlx/8bit", to="plan.json")
    assert [j.format for j in Plan.from_json(json.loads(plan)).jobs] == ["gguf", "mlx"]
    step("build", "plan.json", to="artifacts.json")
    proven = Report.from_json(json.loads(step("verify", "artifacts.json", to="proven.json")))
    assert all(a.evidence and a.evidence.passed for a in proven.artifacts)
    published = Report.from_json(json.loads(step("publish", "proven.json", to="published.json")))
    assert [p.repo_id for p in published.publications] == [
        "steps/Phi-3.5-sample-instruct-GGUF",
        "steps/Phi-3.5-sample-instruct-mlx-8bit",
    ]
    announced = world.phi_bot("announce", "published.json", GITHUB_STEP_SUMMARY=str(world.folder / "summary.md"))
    assert announced.returncode == 0
    assert "gguf/q8_0" in announced.stdout
    assert (world.folder / "summary.md").read_text().strip() == announced.stdout.strip()

    again = Report.from_json(json.loads(step("publish", "proven.json", to="again.json")))
    assert [p.created for p in again.publications] == [False, False]
    assert [p.commit for p in again.publications] == [p.commit for p in published.publications]


def test_a_variant_that_fails_is_not_published_and_the_rest_is(new_world: Callable[[str], World]) -> None:
    world = new_world("strict")
    config = world.folder / "phi-bot.toml"
    config.write_text(config.read_text() + "\n[verify.cost]\nint4 = 1e-9\n")
    done = world.phi_bot("run", MODEL, "--variants", "gguf/q4_k_m,gguf/q8_0")
    assert done.returncode == IncompleteError.exit_code
    assert "gguf/q4_k_m failed: cost of rounding: a faithful conversion" in done.stdout
    files = api(world).list_repo_files("strict/Phi-3.5-sample-instruct-GGUF")
    assert [f for f in files if f.endswith(".gguf")] == ["Phi-3.5-sample-instruct-Q8_0.gguf"]

    config.write_text(config.read_text().replace("int4 = 1e-9", "int4 = 1.0"))
    done = world.phi_bot("run", MODEL, "--variants", "gguf/q4_k_m,gguf/q8_0")
    assert done.returncode == 0, done.stdout + done.stderr
    files = api(world).list_repo_files("strict/Phi-3.5-sample-instruct-GGUF")
    assert len([f for f in files if f.endswith(".gguf")]) == 2


def test_a_local_folder_is_built_and_verified_without_a_hub(sample: Path, new_world: Callable[[str], World]) -> None:
    world = new_world("nobody")
    (world.folder / "phi-bot.toml").write_text('[build]\nwork = "work"\n')
    done = world.phi_bot("run", str(sample), "-v", "gguf/q8_0", "--json", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    artifact = Report.from_json(json.loads(done.stdout)).artifacts[0]
    built = artifact.build
    assert built.source.commit is None
    file = Path(artifact.folder) / "files" / built.files[0].path
    assert hashlib.sha256(file.read_bytes()).hexdigest() == built.files[0].sha256
    evidence = Evidence.from_json(json.loads((Path(artifact.folder) / "evidence.json").read_text()))
    assert evidence == artifact.evidence


def test_verify_notices_a_file_that_was_changed_after_it_was_built(
    sample: Path, new_world: Callable[[str], World]
) -> None:
    world = new_world("changed")
    report = Report.from_json(world.json("build", str(sample), "-v", "gguf/q8_0"))
    folder = Path(report.artifacts[0].folder)
    file = folder / "files" / report.artifacts[0].build.files[0].path
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    done = world.phi_bot("verify", str(folder))
    assert done.returncode != 0
    assert "has another sha256 than when it was built" in done.stdout
