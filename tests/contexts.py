"""What steps work with, as tests want it."""

from dataclasses import replace
from pathlib import Path

from bot.config import Config
from bot.context import Context
from bot.hub import client
from bot.hub.client import Hub
from bot.progress import Display, Silent
from bot.workspace import Workspace

NOBODY = client.connect("http://127.0.0.1:9", None)  # a Hub of which nothing is asked


def context_of(
    config: Config | None = None,
    *,
    hub: Hub = NOBODY,
    workspace: Workspace | Path | None = None,
    display: Display | None = None,
    namespace: str | None = None,
    threads: int | None = None,
) -> Context:
    """Return a Context. What is named besides takes the place of what is configured."""
    config = config or Config()
    if namespace is not None:
        config = replace(config, publish=replace(config.publish, namespace=namespace))
    if threads is not None:
        config = replace(config, build=replace(config.build, threads=threads))
    workspace = config.build.work if workspace is None else workspace
    return Context(
        config=config,
        workspace=Workspace(root=workspace) if isinstance(workspace, Path) else workspace,
        hub=hub,
        display=display or Silent(),
    )
