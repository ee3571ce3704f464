"""The demo: the whole way of a release on one machine, with a small model and the embedded Hub."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from bot.building.sample import make_sample
from bot.errors import UnknownModelError
from bot.hub import client
from bot.localhub import serve
from bot.printable import duration
from bot.progress import Display, display

MODEL = "microsoft/Phi-3.5-sample-instruct"
_CONFIG = """\
# What `make demo` runs with. The Hub's address and token come from the environment.
[build]
work = "work"

[publish]
namespace = "demo"
"""


def demo(folder: Path) -> int:
    """Run the demo in a folder and return the exit code of its `phi-bot run`."""
    started = time.monotonic()
    show = display()
    folder.mkdir(parents=True, exist_ok=True)
    sample = folder / "sample"
    if not sample.exists():
        make_sample(sample, show)
    config = folder / "phi-bot.toml"
    config.write_text(_CONFIG, encoding="utf-8")
    with serve(folder / "hub") as server:
        _release(sample, server.url, server.token, show)
        command = [sys.executable, "-m", "bot.cli", "run", "--config", str(config)]
        click.echo(f"$ phi-bot run --config {config}")
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HUB_DISABLE_XET": "1"}
        code = subprocess.run(command, env=environment).returncode
    click.echo(f"The demo took {duration(time.monotonic() - started)}.")
    if code == 0:
        click.echo(f"Look at it: .venv/bin/phi-bot hub serve {folder / 'hub'}, then open the address it prints.")
    return code


def _release(sample: Path, endpoint: str, token: str, show: Display) -> None:
    """Upload the sample as a new release, unless it is there."""
    hub = client.connect(endpoint, token)
    with suppress(UnknownModelError):
        show.say(f"{hub.release(MODEL).label} is on the embedded Hub already")
        return
    files: dict[str, Path | bytes] = {p.name: p for p in sorted(sample.iterdir())}
    with show.task(f"Releasing {MODEL} on the embedded Hub") as task:
        hub.commit(MODEL, files=files, parent=None, message="Release", task=task)
