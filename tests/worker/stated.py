"""The numbers that an artifact states, held against its source's by the worker of its format."""

import json
from pathlib import Path

import bot
from bot.records.artifacts import Variant
from bot.records.tasks import VerifyTask
from bot.toolchains import Toolchain
from tests.worker.running import run_python

_COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
from pathlib import Path
from bot.records.tasks import VerifyTask
from bot.worker import constants
task = VerifyTask.from_json(json.loads(sys.argv[2]))
config = json.loads((Path(task.source) / "config.json").read_text())
stated = import_module(f"bot.formats.{task.variant.format}.worker.constants").constants
try:
    print(constants.compare(stated(task), constants.of_config(config)))
except ValueError as error:
    print(error)
"""


def compared(toolchain: Toolchain, artifact: Path, variant: Variant, source: Path) -> str:
    """Return what comparing them says, or what is wrong with one."""
    task = VerifyTask(artifact=str(artifact), variant=variant, source=str(source), reference="", threads=2)
    root = Path(bot.__file__).parent.parent
    return run_python(toolchain, _COMPARE, root, json.dumps(task.to_json())).strip()
