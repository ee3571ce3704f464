"""The server of a warm toolchain: it imports what workers import, and forks for each client.

It stays single-threaded, and does nothing with the libraries: only then is a fork like a process that has just begun.
Nothing of the bot is imported here: a test may have it changed.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import select
import selectors
import shutil
import signal
import socket
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

# What libraries import only as they are used, where they are there.
_LATER = (
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.modeling_auto",
    "transformers.models.phi3.modeling_phi3",
    "optimum.commands.optimum_cli",
    "optimum.exporters.openvino.__main__",
)
_PASSED_OVER = "openvino_telemetry"  # as a worker does before it imports anything

# Each worker has others, and no library reads them as it is imported, but to name a folder that nothing is put in, and
# to share the processors among the processes that test. (matplotlib looks for settings at home: tests have none there.)
_OWN = {"HOME", "HF_HOME", "PHI_BOT_HOLDS_STDIN", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "OPENBLAS_NUM_THREADS"}

_LAUNCHER = ("bot", "worker", "launch.py")

Process = dict[str, Any]  # what client.py sends


def main(listening: socket.socket, link: str, *imports: str) -> None:
    """Answer clients until standard input ends. Nothing is imported before the first one is there."""
    select.select([listening.fileno(), 0], [], [])
    limits, environment = _limits(), _shared(os.environ)
    sys.modules[_PASSED_OVER] = None  # type: ignore[assignment]
    for name in imports:
        importlib.import_module(name)
    for name in _LATER:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    clients: dict[int, socket.socket] = {}  # by the process of each

    def ended() -> None:
        with contextlib.suppress(BlockingIOError):
            while woken.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                client = clients.pop(reaped[0])
                with contextlib.suppress(KeyError):
                    waiting.unregister(client)
                with client, contextlib.suppress(OSError):
                    client.sendall(str(reaped[1]).encode())

    def accepted() -> None:
        client, _ = listening.accept()
        process, fds = _received(client)
        if (
            not _is_known(*process["arguments"][:2])
            or process["limits"] != limits
            or _shared(process["environment"]) != environment
        ):
            with client:
                client.sendall(b"cold")
        else:
            client.sendall(b"fork")
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                waiting.close()
                for other in (listening, client, woken, wake, *clients.values()):
                    other.close()
                _become(process, fds, link)
            clients[pid] = client
            waiting.register(client, selectors.EVENT_READ, lambda: gone(pid))
        for fd in fds:
            os.close(fd)

    def gone(pid: int) -> None:
        """End the fork of a client that was killed."""
        if pid in clients:  # else it has just ended by itself
            waiting.unregister(clients[pid])
            kill(pid)

    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it may have no group of its own yet
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def closed() -> NoReturn:
        for pid in clients:
            kill(pid)
        shutil.rmtree(Path(link).parent, ignore_errors=True)
        os._exit(0)

    with selectors.DefaultSelector() as waiting:
        waiting.register(listening, selectors.EVENT_READ, accepted)
        waiting.register(woken, selectors.EVENT_READ, ended)
        waiting.register(0, selectors.EVENT_READ, closed)
        while True:
            for key, _ in waiting.select():
                key.data()


def _is_known(flag: str = "", what: str = "", *_: str) -> bool:
    """Tell whether ``_become`` can: it is code, or a worker, of whichever checkout."""
    return flag == "-I" and (what == "-c" or Path(what).parts[-3:] == _LAUNCHER)


def _limits() -> dict[str, list[int]]:
    return {n: list(resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith("RLIMIT_")}


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k not in _OWN}


def _received(client: socket.socket) -> tuple[Process, list[int]]:
    fds = array.array("i")
    head, ancillary, _, _ = client.recvmsg(8, socket.CMSG_SPACE(3 * fds.itemsize), socket.MSG_WAITALL)
    for _, _, data in ancillary:
        fds.frombytes(data)
    body, size = b"", int.from_bytes(head, "little")
    while len(body) < size:
        body += client.recv(size - len(body))
    return json.loads(body), list(fds)


def _become(process: Process, fds: list[int], link: str) -> NoReturn:
    """Be the process that the client stands in for."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        os.chdir(process["folder"])
        os.umask(process["mask"])
        os.environ.clear()
        os.environ.update(process["environment"])
        sys.executable = link  # what a worker starts is warm as well
        _, what, *rest = process["arguments"]
        if what == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.modules["__main__"] = module = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), module.__dict__)  # noqa: S102
        else:
            sys.argv = [what, *rest]
            runpy.run_path(what, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as an interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:])
