"""Compile, beside what a toolchain brings, what the bot has in C, the search for k-quants, and more kernels of ggml.

Both gain time and nothing else. So the installation does not fail where they cannot be compiled: it is in the log, and
whoever would use them takes the toolchain's own way.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bot.formats.gguf.native.kernels import compile_kernels
from bot.toolchains import system
from bot.toolchains.compile import Compilation

SOURCE = Path(__file__).with_name("kquants.c")

# One library for each, and the extensions of the processor that it is compiled for: by name, as /proc/cpuinfo and
# compilers have them, and not those of this machine, for a toolchain may be cached and move to another one.
_INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "linux-x86_64": {
        "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "f16c"),
        "avx2": ("avx2", "f16c"),
    },
    "linux-aarch64": {"neon": ()},
    "macos-arm64": {"neon": ()},
}

# -ffp-contract=off: compilers else fuse multiplications with additions, which round once where ggml rounds twice.
# -Wno-psabi: GCC warns that other versions of it pass vectors otherwise; here none leaves the one file.
_OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-psabi")


def after_install(
    options: Mapping[str, str],
    kept: Path,
    *,
    kernels: Mapping[str, tuple[str, ...]],
    unpack: Callable[[str], Path],
    into: Path,
    where: Compilation,
) -> None:
    """Add to an environment what this format has of its own: bot/toolchains/compile.py calls it when all is installed.

    ``options`` are the keys of the lock's head that are this format's: ``kquants`` is the folder of ggml's headers
    below ``kept``, where the kept files of the archive are. ``kernels`` are the levels that the lock names for this
    platform, and ``unpack`` unpacks a folder of the archive. Raises KeyError where an option is missing.
    """
    compile_kquants(kept / options["kquants"], into=into, where=where)
    if kernels:
        compile_kernels(kernels, unpack("ggml"), into=into, where=where)


def compile_kquants(headers: Path, *, into: Path, where: Compilation) -> None:
    """Compile the search for k-quants against ggml's headers, as ``into/kquants-SET-SHA256.so`` for each set.

    The name has the digest of the file, so that a damaged one is told from a whole one. Failures are in the log.
    """
    compilers = list(_compilers(where.env))
    for name, extensions in _INSTRUCTION_SETS.get(system.name(), {}).items():
        library = where.scratch / f"kquants-{name}.so"
        options = [*_OPTIONS, *(f"-m{extension}" for extension in extensions), f"-I{headers}"]
        for compiler in compilers:
            if not where.run(compiler, *options, str(SOURCE), "-o", str(library)):
                continue
            into.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(library.read_bytes()).hexdigest()
            shutil.move(library, into / f"kquants-{name}-{digest}.so")
            break
        else:
            tried = ", ".join(compilers) or "no C compiler was found"
            where.note(f"The search for k-quants is not compiled for {name} ({tried}): ggml's own is taken.")


def _compilers(env: dict[str, str]) -> Iterator[str]:
    asked = env.get("CC")
    for candidate in [asked] if asked else ["cc", "gcc", "clang"]:
        if found := shutil.which(candidate, path=env.get("PATH", os.defpath)):
            yield found
