"""What the machine at hand can run."""

import platform
import shutil
import subprocess
from functools import cache


def lacks(target: str) -> str | None:
    """Say in one line what this machine lacks to run files for a target device, or return None if it has it.

    What cannot run here cannot be verified here, and so is not built for publication.
    """
    match target:
        case "cpu":
            return None
        case "cuda":
            return None if _has_nvidia_gpu() else "its runtime needs an NVIDIA GPU, and this machine has none"
        case "dml":
            return None if platform.system() == "Windows" else "its runtime (DirectML) needs Windows"
        case _:
            return f"its runtime ({target}) cannot run on this machine"


@cache
def _has_nvidia_gpu() -> bool:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    return listed.returncode == 0 and "GPU 0" in listed.stdout
