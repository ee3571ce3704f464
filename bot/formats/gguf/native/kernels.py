"""Compile ggml's kernels for levels of processor above the one that llama.cpp itself is compiled for.

A toolchain may be cached and move to another machine, so llama.cpp comes for a level that every processor in question
has, and what a better one has is used through libraries of their own, of which the processor at hand chooses one as it
runs (bot/formats/gguf/worker/kernels.py). They gain time and nothing else. So the installation does not fail where one
cannot be compiled, as for AMX by a compiler that does not know it: that is in the log.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from bot.toolchains import system
from bot.toolchains.compile import Compilation

_ROOT = str(Path(__file__).parents[4])
_TRY = """
import sys
sys.path.insert(0, sys.argv[1])
from bot.formats.gguf.worker.trial import main
main(sys.argv[2])
"""
MANIFEST = "kernels.json"  #: the libraries that were compiled, the best first

# ggml's own names: GGML_CPU_ALL_VARIANTS defines a target for each level, of which those that are asked for are built.
# -Bsymbolic: a library calls its own functions, whatever else in the process has functions of their names. Without a
# path to ggml-base, as which they take the one that is loaded. GGML_LLAMAFILE: as llama.cpp has it by default.
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_LLAMAFILE=ON",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,-Bsymbolic",
    "-DCMAKE_SKIP_RPATH=ON",
)


def compile_kernels(levels: Mapping[str, tuple[str, ...]], ggml: Path, *, into: Path, where: Compilation) -> None:
    """Compile a library for each level from ggml's source, and leave them in a folder with a manifest.

    ``levels`` are ggml's names for them, the best first, each with the processor's flags that it takes. A level that
    cannot be compiled is left out, and so is one that this processor has and that computes wrong products. The manifest
    has the digests of the files, so that a damaged one is told.
    """
    build, source = where.scratch / "kernels", Path(__file__).parent
    header = f"-DCMAKE_CXX_FLAGS=-include {shlex.quote(str(source / 'amx.h'))}"
    where.run("cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", f"-DGGML={ggml}", header, *_OPTIONS)
    targets = [f"ggml-cpu-{level}" for level in levels]
    where.run("cmake", "--build", str(build), "--target", *targets, "--", "-k", "0")  # goes on after a failure
    tried, found = [str(where.python), "-I", "-c", _TRY, _ROOT], []
    for level, flags in levels.items():
        made = build / "bin" / f"libggml-cpu-{level}.so"
        if not made.exists():
            where.note(f"llama.cpp's kernels for {level} could not be compiled: those of a lesser level are taken.")
        elif set(flags) <= system.processor_flags() and not where.run(*tried, str(made)):
            where.note(f"llama.cpp's kernels for {level} failed their trial: those of a lesser level are taken.")
        else:
            into.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            shutil.move(made, into / made.name)
            found.append({"level": level, "file": made.name, "sha256": digest, "flags": sorted(flags)})
    if found:
        (into / MANIFEST).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
