"""A format is one folder and one card: a made-up one goes from the plan to the comparison of a pull request.

This is what CONTRIBUTING.md says in "Add a format".
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from bot import toolchains
from bot.catalogue.families import DEFAULT
from bot.reconvert.child import code_of
from bot.reconvert.compare import kept_sample
from bot.reconvert.records import Comparison
from bot.reconvert.sides import describe_sides
from bot.records.artifacts import Artifact
from bot.toolchains.kept import cache_folder, folder_of
from bot.workspace import Workspace
from tests.e2e.world import MODEL, World
from tests.page_reader import ROOT
from tests.reconvert.trees import checkout

pytestmark = pytest.mark.toolchain

TOY = ROOT / "tests" / "formats" / "toy"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with a fifth format, whose toolchain is what the reference's is."""
    head = checkout(tmp_path / "head")
    folder = head / "bot" / "formats" / "toy"
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("__pycache__", "*.j2"))
    shutil.copyfile(TOY / "toy.md.j2", head / "templates" / "toy.md.j2")
    shutil.copyfile(toolchains.source_file("reference"), folder / "lock.in")
    shutil.copyfile(toolchains.lock_file("reference"), folder / "lock.txt")
    return head


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in which the toolchains are installed that this takes."""
    made = tmp_path / "cache"
    (made / "toolchains").mkdir(parents=True)
    for name in ("reference", "plots"):
        (made / "toolchains" / folder_of(name).name).symlink_to(folder_of(name))
    equal = folder_of("reference")
    (made / "toolchains" / equal.name.replace("reference", "toy", 1)).symlink_to(equal)
    assert equal.parent == cache_folder()
    return made


def test_a_fifth_format_is_one_folder_and_one_card(
    tree: Path, cache: Path, sample: Path, tmp_path: Path, new_world: Callable[[str], World]
) -> None:
    world = new_world("fifth")
    code = {"PYTHONPATH": str(tree), "PHI_BOT_CACHE": str(cache)}

    def said(*arguments: str) -> Any:
        done = world.phi_bot(*arguments, "--json", **code)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def handed_on(name: str, found: Any) -> str:
        (world.folder / name).write_text(json.dumps(found))
        return name

    plan = said("plan", MODEL, "--variants", "toy")
    (job,) = plan["jobs"]
    assert [v["variant"]["name"] for v in job["variants"]] == ["toy/fp16"]
    assert job["estimate"]["memory"] > 0

    built = said("build", handed_on("plan.json", plan))
    proven = said("verify", handed_on("built.json", built))
    (artifact,) = map(Artifact.from_json, proven["artifacts"])
    assert artifact.evidence is not None
    assert artifact.evidence.passed
    assert {d.side for d in artifact.evidence.distances} == {"short", "long"}
    assert all(abs(d.figures.mean_kl) < 0.01 for d in artifact.evidence.distances)  # of half precision

    card = world.phi_bot("card", artifact.folder, **code)
    assert card.returncode == 0, card.stderr
    assert "Weights for [transformers]" in card.stdout

    published = said("publish", handed_on("proven.json", proven))
    (publication,) = published["publications"]
    assert publication["repo_id"] == f"fifth/{MODEL.split('/')[1]}-Toy"
    api = HfApi(endpoint=world.hub.url, token=world.hub.token)
    assert {"fp16/model.safetensors", "README.md", "phi-bot.json"} <= set(api.list_repo_files(publication["repo_id"]))
    assert said("plan", MODEL, "--variants", "toy")["jobs"] == []

    status = world.phi_bot("status", "--out", "site", **code)
    assert status.returncode == 0, status.stderr
    assert "--shape: #446600" in (world.folder / "site" / "style.css").read_text()
    assert "Toy" in (world.folder / "site" / "index.html").read_text()

    found = compare(tree, sample, tmp_path, cache)
    (row,) = found.rows
    assert (row.variant, row.before) == ("toy/fp16", None)
    assert row.after is not None
    assert row.after.status == "verified"


def compare(head: Path, sample: Path, folder: Path, cache: Path) -> Comparison:
    """Compare the tree with ours, from a working folder in which the sample is made already."""
    base = code_of(ROOT)
    kept = kept_sample(Workspace(root=folder / "work"), describe_sides(base, base).base, DEFAULT)
    kept.parent.mkdir(parents=True)
    shutil.copytree(sample, kept)
    sides = ("--base", str(ROOT), "--head", str(head), "--work", str(folder / "work"))
    done = subprocess.run(
        [sys.executable, "-m", "bot.cli", "compare", *sides, "--family", DEFAULT, "--variants", "toy", "--json"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        | {"PYTHONPATH": str(head), "PHI_BOT_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return Comparison.from_json(json.loads(done.stdout))
