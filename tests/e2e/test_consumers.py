"""What people do with a published repo: pull it as its format's users do, and get what the proven file gave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot import format_folders
from bot.records.artifacts import ProvenBuild, Report
from bot.records.evidence import Generation
from tests.e2e.world import World
from tests.formats.hooks import hooks

pytestmark = pytest.mark.toolchain


def proven(published: Report, variant: str) -> tuple[str, ProvenBuild]:
    """Return the repo of a published variant and its build."""
    for publication in published.publications:
        for build in publication.builds:
            if build.build.variant.name == variant:
                return publication.repo_id, build
    raise LookupError(variant)


def consumer(world: World, toolchain: Path, code: str, *arguments: str, folder: Path) -> list[list[int]]:
    """Run a user's script in the format's environment; it prints the ids that it generated."""
    done = subprocess.run(
        [str(toolchain), "-c", code, *arguments],
        env=os.environ | world.environment | {"HF_HOME": str(folder / "hf")},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ids: list[list[int]] = json.loads(done.stdout.strip().splitlines()[-1])
    return ids


def prompts(generations: tuple[Generation, ...]) -> str:
    return json.dumps([[g.prompt_ids, len(g.ids)] for g in generations])


def expected(generations: tuple[Generation, ...]) -> list[list[int]]:
    return [list(g.ids) for g in generations]


def download(world: World, repo_id: str, folder: Path, *options: str) -> None:
    """Run ``hf download``."""
    hf = Path(sys.executable).parent / "hf"
    done = subprocess.run(
        [str(hf), "download", repo_id, "--local-dir", str(folder), *options],
        env=os.environ | world.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", format_folders.names())
def test_a_user_of_the_format_gets_the_tokens_of_the_proven_file(
    published: Report, world: World, toolchain: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    journey = hooks(name).journey
    repo_id, build = proven(published, journey.variant)
    loaded = repo_id
    if journey.fetched is not None:
        download(world, repo_id, tmp_path / "model", *journey.fetched)
        loaded = str(tmp_path / "model" / journey.inside)
    generations = build.evidence.generations
    got = consumer(world, toolchain(name), journey.program, loaded, prompts(generations), folder=tmp_path)
    alike = journey.alike(build.evidence)
    assert [answer[:alike] for answer in got] == [answer[:alike] for answer in expected(generations)]
