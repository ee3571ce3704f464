"""The effect of an importance matrix on each type of GGUF: ``make importance`` [FAMILY…].

Makes the small checkpoint of each family, builds every type of six bits and less with and without a matrix, and
measures all of them as verifying does. Writes results/importance.json and the table of docs/importance.md.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bot import catalogue, texts
from bot.building.sample import make_sample
from bot.catalogue.families import FAMILIES
from bot.formats.registry import all_formats
from bot.progress import Silent
from bot.records.artifacts import Json, Variant
from bot.records.evidence import Distance
from bot.records.tasks import BuildTask, ImportanceTask, ReferenceTask, Target, VerifyTask
from bot.toolchains.enter import Supervision, run_worker
from bot.toolchains.install import ensure

_RESULTS = Path(__file__).parent / "results" / "importance.json"
_WORK = Path(__file__).parent.parent / ".importance"  # the checkpoints stay: making one takes minutes
_PAGE = Path(__file__).parent.parent / "docs" / "importance.md"
_BEGIN, _END = "<!-- table: begin, written by make importance -->", "<!-- table: end -->"
_UP_TO = {"int2", "int3", "int4", "int5", "int6"}
_THREADS = 2


def main(names: list[str]) -> None:
    """Measure families, all of them unless some are named, and write the page anew."""
    known = [name for name, family in FAMILIES.items() if not family.text_part]
    results: dict[str, Json] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    for name in names or known:
        _WORK.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_WORK) as folder:
            measured = measure(name, Path(folder))
        if measured:
            results[name] = measured
            _RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")
            write_page(results)


def pairs() -> list[tuple[Variant, Variant]]:
    """Return each type without and with a matrix."""
    rows = [v for v in catalogue.all_variants().values() if v.format == "gguf" and v.precision in _UP_TO]
    return [
        (
            replace(row, name=f"{row.name}-without", options={"ftype": row.options["ftype"]}),
            replace(row, name=f"{row.name}-with", options={"ftype": row.options["ftype"], "imatrix": True}),
        )
        for row in rows
    ]


def measure(family: str, folder: Path) -> Json:
    """Return the mean KL of each type, in nats with its standard error, without and with a matrix.

    None for a type that llama.cpp does not make without one. Returns {} for a family that GGUF does not take.
    """
    source, reference, model = _WORK / family, folder / "reference", folder / "model"
    if not source.exists():
        make_sample(source, Silent(), family=family)
    config = json.loads((source / "config.json").read_text())
    form = all_formats()["gguf"]
    q8_0 = catalogue.all_variants()["gguf/q8_0"]
    if form.refusal(config, q8_0) is not None:
        return {}
    toolchain = ensure("gguf", Silent())
    log = folder / "log"
    reference.mkdir()
    asked = ReferenceTask(source=str(source), out=str(reference), threads=_THREADS)
    run_worker(
        ensure("reference", Silent()),
        "bot.worker.reference",
        "compute",
        asked,
        Supervision(log=log, on_event=lambda _: None),
    )

    _build(source, [q8_0], model, "")
    (folder / "text").write_text("\n\n".join(texts.training()), encoding="utf-8")
    (gguf,) = (model / q8_0.short_name).iterdir()
    wanted = ImportanceTask(
        variant=q8_0, model=str(gguf), text=str(folder / "text"), name="training.txt", out=str(folder), threads=_THREADS
    )
    run_worker(
        toolchain, "bot.formats.gguf.worker", "importance", wanted, Supervision(log=log, on_event=lambda _: None)
    )
    variants = [variant for pair in pairs() for variant in pair]
    built = _build(source, variants, folder / "built", str(folder / "imatrix.gguf"))

    found: dict[str, Json] = {}
    for variant in variants:
        kind, _, how = variant.short_name.rpartition("-")
        found.setdefault(kind, {})[how] = None
        if variant.name in built:
            verify = VerifyTask(
                artifact=str(folder / "built" / variant.short_name),
                variant=variant,
                source=str(source),
                reference=str(reference),
                threads=_THREADS,
                read_differently=tuple(form.read_differently(config)),
            )
            said = run_worker(
                toolchain, "bot.formats.gguf.worker", "verify", verify, Supervision(log=log, on_event=lambda _: None)
            )
            distances = [Distance.from_json(d) for d in said["distances"]]
            short = next(d for d in distances if d.side == "short" and d.setting == "")
            found[kind][how] = [short.figures.mean_kl, short.standard_errors.mean_kl]
        sys.stderr.write(f"{family} {variant.short_name}: {found[kind][how]}\n")
    return found


def _build(source: Path, variants: list[Variant], folder: Path, importance: str) -> set[str]:
    for name in (*(v.short_name for v in variants), "scratch"):
        (folder / name).mkdir(parents=True)
    task = BuildTask(
        source=str(source),
        model_name="model",
        targets=tuple(
            Target(variant=v, out=str(folder / v.short_name), partial=str(folder / f"{v.short_name}.partial"))
            for v in variants
        ),
        scratch=str(folder / "scratch"),
        threads=_THREADS,
        importance=importance,
    )
    built: set[str] = set()

    def on_event(event: dict[str, Json]) -> None:
        if event["event"] == "built":
            built.add(event["variant"])

    run_worker(
        ensure("gguf", Silent()),
        "bot.formats.gguf.worker",
        "build",
        task,
        Supervision(log=folder / "log", on_event=on_event),
    )
    return built


def write_page(results: dict[str, Json]) -> None:
    """Write the table of a page: of each type and family the KL with a matrix, and how often it goes into the other."""
    kinds = list(dict.fromkeys(kind for found in results.values() for kind in found))
    lines = [
        "| Type | " + " | ".join(results) + " |",
        "|:-----|" + "---:|" * len(results),
        *(
            f"| {kind.upper()} | " + " | ".join(_cell(found[kind]) for found in results.values()) + " |"
            for kind in kinds
        ),
    ]
    text = _PAGE.read_text(encoding="utf-8")
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    _PAGE.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{after}", encoding="utf-8")


def _cell(measured: dict[str, list[float] | None]) -> str:
    without, with_one = measured["without"], measured["with"]
    if with_one is None:
        return "–"  # noqa: RUF001
    if without is None:
        return f"{with_one[0]:.3g}"
    error = (without[1] ** 2 + with_one[1] ** 2) ** 0.5
    mark = "" if abs(with_one[0] - without[0]) > 2 * error else " ~"
    return f"{with_one[0]:.3g} (×{with_one[0] / without[0]:.2f}{mark})"  # noqa: RUF001


if __name__ == "__main__":
    main(sys.argv[1:])
