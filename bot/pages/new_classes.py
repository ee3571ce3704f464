"""What would have to move for models of a new class to be built: a line for each toolchain that does not take it."""

from dataclasses import dataclass

from bot import catalogue, toolchains
from bot.formats.registry import all_formats
from bot.source.meaning import NATIVE
from bot.toolchains import lock

REFERENCE = "transformers"  #: computes the reference that every file is held against


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A package at the version that is locked, what it is here for, and why it keeps a class from being built."""

    package: str
    version: str
    role: str
    why: str


def tools_to_move(name: str) -> tuple[Tool, ...]:
    """Return what would have to move for a class of models to be built: the reference first, then each format."""
    read = f"phi-bot reads {', '.join(sorted(NATIVE))} with it"
    found = [_tool(REFERENCE, "reference", "the reference", read)]
    rows = catalogue.all_variants().values()
    for form in all_formats().values():
        first = next(row for row in rows if row.format == form.name)
        why = form.refusal({"architectures": [name]}, first)
        if why is not None:
            found.append(_tool(form.packages[0], form.name, form.title, why))
    return tuple(found)


def _tool(package: str, toolchain: str, role: str, why: str) -> Tool:
    return Tool(package=package, version=_version(toolchain, package), role=role, why=why)


def _version(toolchain: str, package: str) -> str:
    locked = lock.read(toolchains.lock_file(toolchain)).requirements
    wanted = lock.canonical(package)
    return next((r.version for r in locked if lock.canonical(r.name) == wanted), "")
