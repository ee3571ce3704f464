"""Compile the one package of a toolchain that comes as a source archive, and keep what else it carries or helps it."""

import importlib
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bot.progress import Task
from bot.system import machine
from bot.toolchains import system
from bot.toolchains.lock import Lock
from bot.toolchains.pip import CommandFailed, compilation, run


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment that is being made, the variables that its Python is run with, and the log of what that prints."""

    python: Path
    site_packages: Path
    env: dict[str, str]
    log: Path


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """Where something is compiled: scratch space, the log, the variables of commands, and who follows their lines.

    ``python`` is that of the environment that it is for.
    """

    python: Path
    scratch: Path
    log: Path
    env: dict[str, str]
    follow: Callable[[str], None] = lambda _: None

    def run(self, *command: str) -> bool:
        """Run a command that may fail; return whether it did not. What it printed is in the log."""
        try:
            run(list(command), log=self.log, env=self.env, follow=self.follow)
        except CommandFailed:
            return False
        return True

    def note(self, line: str) -> None:
        """Add a line to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def build_package(name: str, lock: Lock, target: Environment, *, scratch: Path, task: Task) -> None:
    """Download the archive of a lock's ``build``, compile it in ``scratch`` and install it in an environment.

    The environment must have all that the package is built with. ``name`` is the toolchain's, whose format adds what it
    has of its own. Raises Failed if a command fails.
    """
    package = lock.build
    assert package is not None  # noqa: S101 - this is called where there is one
    requirements = [r for r in lock.requirements if r.name == package.package]
    task.update(f"downloading {package.package}", 0, 1, "packages")
    python, log = target.python, target.log
    file = scratch / "source.txt"
    file.write_text("".join(f"{r.text}\n" for r in requirements), encoding="utf-8")
    pip = [str(python), "-I", "-m", "pip"]
    options = ["--no-deps", "--no-build-isolation", "--progress-bar", "off"]
    follow = compilation(task)
    # Its metadata are asked of its build backend, which looks for CMake and ninja: those of the environment.
    env = target.env | {"PATH": f"{python.parent}{os.pathsep}{target.env.get('PATH', '')}"}
    download = ["download", "--require-hashes", "--no-binary", ":all:", "--dest", str(scratch), "-r", str(file)]
    run([*pip, *download, *options], log=log, env=env, follow=follow)
    (archive,) = scratch.glob("*.tar.gz")

    first = scratch / "variables.cmake"
    first.write_text("".join(f"set({name} {value})\n" for name, value in package.variables.items()), encoding="utf-8")
    processor = package.processors.get(system.name())
    arguments = [
        *package.arguments,
        *(processor.arguments if processor else ()),
        f"-DCMAKE_PROJECT_{package.project}_INCLUDE={first.as_posix()}",
    ]
    env |= {"SKBUILD_CMAKE_ARGS": ";".join(arguments), "CMAKE_BUILD_PARALLEL_LEVEL": str(machine.processors())}
    # Without pip's cache: it might hold a wheel of the same version that someone built with other arguments.
    install = ["install", "--verbose", "--no-index", "--no-cache-dir", str(archive)]
    run([*pip, *install, *options], log=log, env=env, follow=follow)

    environment = python.parent.parent
    kept = environment / "src" / PurePosixPath(package.source).name
    unpack_kept(archive, package.source, package.keep, into=kept)
    lines = "".join(f"{kept / path}\n" for path in package.paths)
    (target.site_packages / f"{package.package}-source.pth").write_text(lines, encoding="utf-8")
    if package.after_install:

        def unpack(folder: str) -> Path:
            unpack_kept(archive, package.source, [folder], into=scratch / "unpacked")
            return scratch / "unpacked" / folder

        native = importlib.import_module(f"bot.formats.{name}.native")
        where = Compilation(python=python, scratch=scratch, log=log, env=env, follow=follow)
        kernels, into = lock.kernels.get(system.name(), {}), environment / "lib" / "phi-bot"
        native.after_install(package.after_install, kept, kernels=kernels, unpack=unpack, into=into, where=where)


def unpack_kept(archive: Path, source: str, paths: Iterable[str], *, into: Path) -> None:
    """Unpack the files and folders ``paths`` below ``source``, a folder of what an archive's top folder holds."""
    folder = PurePosixPath(source)
    wanted = [folder / path for path in paths]
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not any(path.is_relative_to(w) for w in wanted) or ".." in path.parts:
                continue
            target = into / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # noqa: S101 - it is a file
            target.write_bytes(content.read())
