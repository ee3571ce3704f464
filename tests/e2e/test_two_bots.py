"""Two bots on one namespace, started together: each file is published once, and nothing either of them did is lost."""

from collections.abc import Callable

import pytest
from huggingface_hub import HfApi

from bot.localhub import check
from tests.e2e.world import World

pytestmark = pytest.mark.toolchain


def test_two_bots_started_together_publish_each_artifact_once(new_world: Callable[[str], World]) -> None:
    one, other = new_world("both"), new_world("both-other")
    config = (other.folder / "phi-bot.toml").read_text().replace("both-other", "both")
    (other.folder / "phi-bot.toml").write_text(config)
    started = [world.start("run", "-v", "gguf/q8_0,mlx/8bit") for world in (one, other)]
    for process in started:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, out + err
    api = HfApi(endpoint=one.hub.url, token=one.hub.token)
    for name, variant in (("GGUF", "gguf/q8_0"), ("mlx-8bit", "mlx/8bit")):
        titles = [c.title for c in api.list_repo_commits(f"both/Phi-3.5-sample-instruct-{name}")]
        assert [t for t in titles if t.startswith("Add")] == [t for t in titles if t.startswith(f"Add {variant} of")]
        assert len([t for t in titles if t.startswith("Add")]) == 1
    assert check(one.hub.hub.folder) == []
    again = one.phi_bot("run", "-v", "gguf/q8_0,mlx/8bit")
    assert "Nothing to convert: 2 variants are published already." in again.stdout
