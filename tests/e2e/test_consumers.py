"""What people do with a published repo: pull it as its format's users do, and get what the proven file gave."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import pytest

import bot
from bot import format_folders
from bot.formats.registry import worker_module
from bot.progress import Silent
from bot.records.artifacts import Artifact, ProvenBuild, Report
from bot.records.evidence import Generation
from bot.records.tasks import VerifyTask
from bot.toolchains.install import ensure
from tests.e2e.world import World
from tests.formats.hooks import hooks
from tests.worker.running import run_python

pytestmark = pytest.mark.toolchain


ROOT = Path(bot.__file__).parents[1]
_TIE = 0.5  # between logits: two steps of bfloat16, in which mlx-lm computes them; measured up to 0.125

# Prints by how much a file's runtime prefers one of two tokens behind some ids; one that is left out ends the answer.
_GAP = """
import json, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from bot.records.tasks import VerifyTask

task, ids, chosen = (json.loads(text) for text in sys.argv[3:])
runtime = import_module(sys.argv[2]).load(VerifyTask.from_json(task))
row = runtime.logits(ids, [len(ids) - 1])[-1]
one, other = (max(float(row[t]) for t in tokens or runtime.stop_ids()) for tokens in chosen)
print(one - other)
"""


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


def artifact(published: Report, build: ProvenBuild) -> Artifact:
    """Return the files of a build where they were proven."""
    return next(a for a in published.artifacts if a.build.build_key == build.build.build_key)


def assert_alike(answer: Sequence[int], generation: Generation, of: Artifact) -> None:
    """Hold an answer against the measured one, up to where the proven file itself hardly decides between the two.

    The kernels of a user's runtime sum in another order than the measured ones, or in fewer bits.
    """
    measured = generation.ids
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(answer, measured, strict=False)))
    if same == len(answer) == len(measured):
        return
    ids = [*generation.prompt_ids, *measured[:same]]
    chosen = [list(tokens[same : same + 1]) for tokens in (measured, answer)]  # none: there it ends
    folder = Path(of.folder) / "files"
    task = VerifyTask(artifact=str(folder), variant=of.build.variant, source="", reference="", threads=2)
    module = f"{worker_module(of.build.variant.format)}.runtime"
    given = (ROOT, module, *map(json.dumps, (task.to_json(), ids, chosen)))
    said = run_python(ensure(of.build.variant.format, Silent()), _GAP, *given)
    gap = float(said.splitlines()[-1])
    assert abs(gap) < _TIE, f"token {same} of {generation.prompt!r} is {answer[same : same + 1]}, and not {measured}"


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
    published_of: Callable[[str], tuple[Report, World]], toolchain: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    published, world = published_of(name)
    journey = hooks(name).journey
    repo_id, build = proven(published, journey.variant)
    loaded = repo_id
    if journey.fetched is not None:
        download(world, repo_id, tmp_path / "model", *journey.fetched)
        loaded = str(tmp_path / "model" / journey.inside)
    generations = build.evidence.generations
    got = consumer(world, toolchain(name), journey.program, loaded, prompts(generations), folder=tmp_path)
    for answer, generation in zip(got, generations, strict=True):
        assert_alike(answer, generation, artifact(published, build))
