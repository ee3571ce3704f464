"""The run of a workflow on GitHub that this process is a part of."""

from collections.abc import Mapping


def run_address(environ: Mapping[str, str]) -> str:
    """Return the address of the run of GitHub Actions that this is, or ""."""
    server, repository, run = (environ.get(f"GITHUB_{k}", "") for k in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
