"""A publisher who lets an importance matrix be tried: the whole way, and killed while the matrix is measured."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bot.building.importance_matrix import file_in
from bot.localhub import check
from bot.workspace import read_json
from tests.e2e.world import MODEL, World

pytestmark = [pytest.mark.toolchain, pytest.mark.process]

REPO = "trying/Phi-3.5-sample-instruct-GGUF"


def kill_while_it_measures(world: World) -> None:
    """Start the main job, and kill it when the model that a matrix is measured on is whole, and no matrix is."""
    process = world.start("run", MODEL, "--variants", "gguf/q4_k_m")
    scratch = world.folder / "work" / "scratch"
    ends = time.monotonic() + 120
    while not list(scratch.glob("*/model/*.gguf")):  # renamed when it is whole
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "it never began"
        time.sleep(0.05)
    time.sleep(0.7)  # by then it runs
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert "Measuring the importance of weights" in err, out + err
    assert "Importance matrix:" not in err, "it was done already"


def test_killed_while_it_measures_a_matrix_the_next_run_tries_it(new_world: Callable[[str], World]) -> None:
    world = new_world("trying")
    config = world.folder / "phi-bot.toml"
    config.write_text(config.read_text().replace("[build]\n", '[build]\nimatrix_from_4_bits = "measured"\n'))
    kill_while_it_measures(world)
    assert not (world.folder / "work" / "importances").exists(), "nothing half has a name"

    done = world.phi_bot("run", MODEL, "--variants", "gguf/q4_k_m")
    assert done.returncode == 0, done.stdout + done.stderr
    used = "gguf/q4_k_m: an importance matrix lowers the KL from " in done.stderr
    assert used or "with an importance matrix and" in done.stderr, "which it is depends on the sample"
    assert done.stderr.count("Verifying gguf/q4_k_m …") == 1, "it is measured once, for the trial and as evidence"
    (folder,) = (world.folder / "work").glob("importances/*")
    assert file_in(folder, "gguf").is_file()
    assert list((world.folder / "work" / "scratch").glob("*/*")) == []
    assert check(world.hub.hub.folder) == []

    build = read_json(downloaded(world, "phi-bot.json"))["builds"][0]["build"]
    trial = build["imatrix_trial"]
    assert trial["with_kl"] < trial["without_kl"] or not used
    assert (build["imatrix"] or {}).get("text") == ("training.txt" if used else None)
    assert "An importance matrix was tried on" in downloaded(world, "README.md").read_text(encoding="utf-8")

    again = world.phi_bot("run", MODEL, "--variants", "gguf/q4_k_m")
    assert "gguf/q4_k_m is in trying/Phi-3.5-sample-instruct-GGUF already: nothing to do" in again.stderr
    config.write_text(config.read_text().replace('"measured"', '"never"'))
    plan = world.json("plan", MODEL, "--variants", "gguf/q4_k_m")
    assert [v["reason"] for job in plan["jobs"] for v in job["variants"]] == ["outdated"], "it is another recipe"
    titles = [c.title for c in HfApi(endpoint=world.hub.url, token=world.hub.token).list_repo_commits(REPO)]
    assert sum(t.startswith("Add gguf/q4_k_m") for t in titles) == 1


def downloaded(world: World, name: str) -> Path:
    """Fetch a file of the repo."""
    cache = world.folder / "downloads"
    return Path(hf_hub_download(REPO, name, endpoint=world.hub.url, token=world.hub.token, cache_dir=cache))
