"""``python -m bot.action keys|toolchains|run``: the steps of action.yml that are ours."""

import os
import sys

from bot.action import caches, inputs, outputs
from bot.action.run import run
from bot.errors import PhiBotError
from bot.progress import display


def main(step: str) -> int:
    """Do one step; return its exit code. Everything it needs is in the environment."""
    os.environ.setdefault("PHI_BOT_CACHE", str(caches.default_folder(os.environ)))
    match step:
        case "keys":
            return _keys()
        case "toolchains":
            return _toolchains()
        case "run":
            return run(os.environ)
    raise SystemExit(f"python -m bot.action keys|toolchains|run, not {step!a}")


def _keys() -> int:
    try:
        names = caches.needed_toolchains(inputs.read(os.environ), os.environ)
    except PhiBotError:  # the step that runs phi-bot says it, and sets the outputs
        names = ()
    outputs.set_outputs(
        outputs.file_of(os.environ, "GITHUB_OUTPUT"),
        {"key": caches.key(names), "paths": caches.paths(names), "toolchains": list(names)},
    )
    return 0


def _toolchains() -> int:
    names = caches.names_of(os.environ["TOOLCHAINS"])
    for error in caches.fill(names, display()):
        outputs.warning(error.message, error.hint)
    complete = caches.are_installed(names)
    outputs.set_outputs(outputs.file_of(os.environ, "GITHUB_OUTPUT"), {"complete": "true" if complete else "false"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
