"""phi-bot run: what it does of what is configured."""

from pathlib import Path

import pytest

from bot.hub.client import connect
from bot.localhub import RunningHub
from bot.progress import Silent
from tests.cli.test_bad_input import phi_bot
from tests.source import models

pytestmark = pytest.mark.process

MODEL = "microsoft/Phi-3.5-tiny"


@pytest.mark.parametrize(("option", "repos"), [((), {"state"}), (("--no-publish",), set())])
def test_without_publishing_nothing_is_written_in_the_configured_namespace(
    hub: RunningHub, tmp_path: Path, option: tuple[str, ...], repos: set[str]
) -> None:
    """The model is damaged, which a run that publishes remembers, and any other one only says."""
    client = connect(hub.url, hub.token)
    files = models.files(model__safetensors=models.files()["model.safetensors"][:-3])
    with Silent().task("") as task:
        client.commit(MODEL, files=files, parent=None, message="Release", task=task)
    (tmp_path / "phi-bot.toml").write_text('[publish]\nnamespace = "demo"\nstate = "state"\n')
    done = phi_bot(tmp_path, "run", MODEL, "-v", "gguf/q4_k_m", *option, HF_ENDPOINT=hub.url, HF_TOKEN=hub.token)
    assert done.returncode == 22, done.stderr
    there = {name for name in ("state",) if client.read_files(f"demo/{name}", ["memory.json"], repo_type="dataset")}
    assert there == repos
