"""Run a worker: ``TOOLCHAIN/bin/python -I …/bot/worker/launch.py bot.formats.gguf.worker build TASK.json``.

The bot is lent to a toolchain, not installed in it: one toolchain serves every version of the bot, and a change
of the bot's code needs no installation. Only the package ``bot`` becomes importable, not what lies beside it, for the
bot's own environment holds other versions of the same libraries.
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def _lend_bot() -> None:
    package = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "bot", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None  # noqa: S101 - the file is there: this one lies below it
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules["bot"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _lend_bot()
    name = sys.argv[1]
    if not name.startswith(("bot.worker.", "bot.formats.")):
        sys.exit(f"launch.py runs only bot.worker.* and bot.formats.*, not {name}")
    sys.argv = sys.argv[1:]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
