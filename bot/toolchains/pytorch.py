"""Where the CPU builds of PyTorch for Linux come from: the one package that is not on the ordinary index."""

import os

from bot.toolchains import FOLDER


def cpu_index() -> str:
    """Return the address of the index that has them; the environment variable PHI_BOT_TORCH_INDEX names another."""
    return os.environ.get("PHI_BOT_TORCH_INDEX", "https://download.pytorch.org/whl/cpu").rstrip("/")


def cpu_wheels(version: str) -> dict[str, str]:
    """Return the sha256, in hex, of each wheel of a version that is known, by file name."""
    lines = (FOLDER / "torch-cpu.sha256").read_text(encoding="utf-8").splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: digest for digest, name in rows if name.startswith(f"torch-{version}+cpu-")}
