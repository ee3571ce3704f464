"""Run a command, and end it when the bot dies: ``python -I guard.py COMMAND…``.

Standard input is a pipe that the bot holds and never writes to; its end means that the bot is gone, however it went.
The command and all that it starts share this process's group, which is then killed.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_with(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with, args=[command], daemon=True).start()
    code = command.wait()
    os._exit(code if code >= 0 else 128 - code)  # not sys.exit: the thread still reads
