"""What the stock tools write is kept as digests, in stock.json: they run where that does not say what was built.

A digest is of all files of a variant, by the lock of its toolchain, the files of the source, and the variant's row.
Where it is that of what was built, the tool would write the same bytes, and need not. Where none is kept (of another
lock, another source, a matrix measured on another processor), or another one, the tool runs, and files are compared
byte by byte. ``make digests`` runs all tools and keeps what they write; ``make sweep`` runs them too, and holds what is
kept against it.
"""

import filecmp
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from bot.records.artifacts import Json, Variant
from bot.records.digests import digest_of
from bot.toolchains import Toolchain
from tests.worker.running import MODEL, Built, build, importance_of

FILE = Path(__file__).with_name("stock.json")
MODE = os.environ.get("PHI_BOT_STOCK", "")  # "run": all tools run; "keep": and what they write is kept


def assert_as_stock(
    built: Built,
    toolchain: Toolchain,
    source: Path,
    variants: Sequence[Variant],
    folder: Path,
    *,
    check: Callable[[Built, Sequence[Variant]], None] = lambda stock, variants: None,
) -> None:
    """Variants were built to the bytes that the stock tool writes. ``check`` is of how it wrote those that it has to.

    In a new folder it builds those of which it is not known that it writes what was built.
    """
    keys = {v.name: _key(toolchain, source, v) for v in variants}
    kept = _kept(toolchain)
    known = {name: kept[key] for name, key in keys.items() if key in kept}
    if not MODE:
        variants = [v for v in variants if known.get(v.name) != digest(built.folders[v.name])]
        keys = {v.name: keys[v.name] for v in variants}
    if not variants:
        return
    stock = build(toolchain, source, variants, folder, log=folder.with_suffix(".log"), stock=True)
    check(stock, variants)
    assert_same(Built(folders={v.name: built.folders[v.name] for v in variants}), stock)
    written = {name: digest(stock.folders[name]) for name in keys}
    if MODE == "keep":
        _keep(toolchain, {keys[name]: written[name] for name in keys})
    elif MODE:
        assert known == {name: written[name] for name in known}, "what is kept is not what was written: make digests"
    else:
        warnings.warn(f"{', '.join(keys)}: what the tool writes is not kept: make digests", stacklevel=2)


def assert_same(one: Built, other: Built) -> None:
    """Every file of every variant has the same bytes; a comparison of the bytes themselves would print them."""
    assert set(one.folders) == set(other.folders)
    for name in one.folders:
        ours, theirs = one.folders[name], other.folders[name]
        found = sorted(p.name for p in ours.iterdir())
        assert found == sorted(p.name for p in theirs.iterdir())
        assert filecmp.cmpfiles(ours, theirs, found, shallow=False) == (found, [], [])


def digest(folder: Path) -> str:
    """Return the digest of the names and the bytes of all files in a folder."""
    return digest_of({p.name: _sha256(p) for p in folder.iterdir() if p.is_file()})


def _key(toolchain: Toolchain, source: Path, variant: Variant) -> str:
    matrix = _sha256(Path(importance_of(source))) if variant.options.get("imatrix") else ""
    made_from: list[Json] = [variant.to_json(), digest(source), matrix, MODEL]
    return f"{variant.name} {digest_of(made_from)[:16]}"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _kept(toolchain: Toolchain) -> dict[str, str]:
    found = json.loads(FILE.read_text(encoding="utf-8")).get(toolchain.name) if FILE.exists() else None
    return found["written"] if found and found["lock"] == toolchain.lock_digest else {}


def _keep(toolchain: Toolchain, written: dict[str, str]) -> None:
    with FileLock(f"{FILE}.lock"):
        everything = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        merged = dict(sorted((_kept(toolchain) | written).items()))
        everything[toolchain.name] = {"lock": toolchain.lock_digest, "written": merged}
        FILE.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n", encoding="utf-8")
