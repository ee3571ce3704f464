"""The pipeline as the workflows run it: plan, build and stage, promote, each with a token that may do just that."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bot.config import Config
from bot.errors import TokenError
from bot.hub import client
from bot.publishing import checks
from bot.records.artifacts import Report
from bot.state.attempts import Attempted
from bot.state.store import store_of
from tests.e2e.world import MODEL, World

pytestmark = pytest.mark.toolchain

OWNER = "chain"
REPO = f"{OWNER}/Phi-3.5-sample-instruct-GGUF"


def test_three_machines_with_three_tokens_publish_the_same_as_one(
    new_world: Callable[[str], World], tmp_path: Path
) -> None:
    world = new_world(OWNER)
    owner = HfApi(endpoint=world.hub.url, token=world.hub.token)
    owner.create_repo(f"{OWNER}/phi-bot-staging")
    owner.create_repo(f"{OWNER}/phi-bot-state", repo_type="dataset", private=True)
    may = world.hub.hub.tokens.make
    to_plan = may("planner", "write", (f"datasets/{OWNER}/phi-bot-state",))
    to_stage = may("stager", "write", (f"{OWNER}/phi-bot-staging",))
    to_promote = may("promoter", "write", (OWNER,))

    planned = world.phi_bot("plan", "--matrix", "--begin", "-v", "gguf/q8_0", HF_TOKEN=to_plan)
    assert planned.returncode == 0, planned.stderr
    [entry] = json.loads(planned.stdout)["include"]
    assert entry["release"].startswith(f"{MODEL}@")
    assert {a.step for a in memory(world)} == {"begun"}

    built = world.phi_bot(
        "run", entry["release"], "--variants", entry["variants"], "--stage", "--json", HF_TOKEN=to_stage
    )
    assert built.returncode == 0, built.stderr
    report = Report.from_json(json.loads(built.stdout))
    assert [s.build.variant.name for s in report.staged] == ["gguf/q8_0"]
    assert not owner.repo_exists(REPO)
    [artifact] = report.artifacts
    refused = world.phi_bot("publish", artifact.folder, HF_TOKEN=to_stage)
    assert refused.returncode == TokenError.exit_code, refused.stderr
    assert not owner.repo_exists(REPO)

    waiting = world.phi_bot("plan", "--matrix", "-v", "gguf/q8_0", HF_TOKEN=to_plan)
    assert json.loads(waiting.stdout) == {"include": []}

    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "report.json").write_text(built.stdout)
    promoted = world.phi_bot("promote", "--reports", str(tmp_path / "reports"), "--json", HF_TOKEN=to_promote)
    assert promoted.returncode == 0, promoted.stderr
    [publication] = Report.from_json(json.loads(promoted.stdout)).publications
    assert (publication.repo_id, publication.created) == (REPO, True)
    newest = next(iter(owner.list_repo_commits(REPO)))
    assert newest.title == f"Add gguf/q8_0 of {MODEL}@{entry['release'][-40:-28]}"
    [file] = artifact.build.files
    there = client.connect(world.hub.url, to_promote).files(REPO)
    assert there is not None
    assert there[1][file.path].digest == f"sha256:{file.sha256}"
    assert memory(world) == []

    again = world.phi_bot("promote", HF_TOKEN=to_promote)
    assert again.returncode == 0, again.stderr
    assert owner.model_info(REPO).sha == publication.commit


def memory(world: World) -> list[Attempted]:
    hub = client.connect(world.hub.url, world.hub.token)
    return list(store_of(hub, OWNER, Config()).memory.attempts.values())


def test_the_evidence_of_every_format_passes_the_checks_of_promoting(published: Report, world: World) -> None:
    hub = client.connect(world.hub.url, world.hub.token)
    builds = [b for p in published.publications for b in p.builds]
    assert {b.build.variant.format for b in builds} == {"gguf", "onnx", "openvino", "mlx"}
    for proven in builds:
        checks.check_shape(proven.build, now=dt.datetime.now(dt.UTC))
        checks.check_build(proven.build)
        release = checks.check_release(proven.build, hub)
        assert checks.check_evidence(proven.build, proven.evidence, release, Config()) == proven
    for publication in published.publications:
        found = hub.files(publication.repo_id)
        assert found is not None
        for proven in publication.builds:
            own = {f.path for f in proven.build.files}
            prefix = f"{proven.build.path_in_repo}/" if proven.build.path_in_repo else ""
            files = {p.removeprefix(prefix): f for p, f in found[1].items() if p.removeprefix(prefix) in own}
            assert checks.check_files(proven.build, files, repo_id=publication.repo_id, commit=found[0], hub=hub)
