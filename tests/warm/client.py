"""What stands in for the interpreter of a warm toolchain: it hands itself to the server, and ends as its fork does.

``client.py ADDRESS PYTHON ARGUMENTS…`` becomes PYTHON itself, cold, where the server cannot have it otherwise.
"""

import array
import json
import os
import resource
import signal
import socket
import sys


def main(address: str, python: str, *arguments: str) -> None:
    """Hand this process to the server."""
    mask = os.umask(0)
    os.umask(mask)
    process = {
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes as long to import as all the rest
        "mask": mask,
        "environment": dict(os.environ),
        "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")},
    }
    body = json.dumps(process).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(address)
        fds = array.array("i", [0, 1, 2])
        server.sendmsg([len(body).to_bytes(8, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        server.sendall(body)
        if server.recv(4) != b"fork":
            os.execv(python, [python, *arguments])  # noqa: S606
        null = os.open(os.devnull, os.O_RDWR)
        for fd in fds:
            os.dup2(null, fd)  # who reads the streams sees their end when the fork has ended
        status = int(server.recv(64) or b"255")
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), os.WTERMSIG(status))
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
