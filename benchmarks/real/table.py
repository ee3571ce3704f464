"""The table of what builds take: benchmarks/real.md, written from benchmarks/results/latest.json."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import linear_regression, median

from benchmarks.real.outputs import compared
from benchmarks.real.results import Cell, Results, Way
from benchmarks.real.watched import Taken

_HEAD = """\
# What builds of real sizes take

Written by `make bench`. Checkpoints with the shapes of published models and random weights (see
[checkpoints.py](checkpoints.py)) are made into files by the tools themselves, with the command lines that a person
would type, and by `phi-bot build`; the ways alternate. Before each run, the system's cache forgets the weights.

**By hand** stands for `convert_hf_to_gguf.py` and `llama_model_quantize`, `onnxruntime_genai.models.builder`,
`optimum-cli export openvino` and `mlx_lm convert`, one variant after the other. `phi-bot --stock` runs the same tools
from inside phi-bot. phi-bot's figures are of the whole command, which also hashes what it makes; as with the tools,
the model is on the disk before it begins, and its hashes are known (downloading checks them).

- *Resident* is the most memory that all processes together had at a time, pages of files included; *anonymous* is
  without these.
- *Scratch* is the most that lay on the disk beside the outputs; *read* is what came from the disk, and *written*
  what was written by calls. (phi-bot has OpenVINO write what nobody wants to `/dev/null`, and that counts too.)
- In parentheses: as a part of what the tools take by hand.
- *Same* says whether every file that holds weights is, to the byte, the one made by hand; then come the other
  files that differ. (phi-bot sets right what a source leaves unsaid: tokens that end an answer, names in headers.)
- Where other work kept the machine busy, which the line below a table tells, CPU seconds are the figure to go by.
- A line with ≈ was not run, for the reason that is given: a straight line through runs with fewer layers says it.
"""
_WAYS: dict[Way, str] = {"raw": "by hand", "stock": "phi-bot --stock", "phi-bot": "phi-bot"}
_GB = 1e9


def text(results: Results) -> str:
    """Return the whole page."""
    last = f"The last rows were taken on {results.taken}, at commit {results.commit}."
    lines = [_HEAD, f"Machine: {results.machine}. {last}", ""]
    versions = (
        f"{n} {', '.join(f'{p} {v}' for p, v in sorted(found.items()))}" for n, found in results.toolchains.items()
    )
    lines += [f"Toolchains: {'; '.join(versions)}.", ""]
    for shape, layers in dict.fromkeys((c.shape, c.layers) for c in results.cells):
        loads = [c.load for c in results.cells if (c.shape, c.layers) == (shape, layers) and c.taken is not None]
        lines += [f"## {shape}, {layers} layers", "", *_table(results.cells, shape, layers), ""]
        if loads:
            lines += [f"Processes at work on the machine before the runs: {min(loads)} to {max(loads)}.", ""]
    return "\n".join(lines)


def _table(cells: Sequence[Cell], shape: str, layers: int) -> list[str]:
    gigabytes = " | ".join(f"{name}, GB" for name in ("resident", "anonymous", "scratch", "read", "written"))
    lines = [
        f"| made | way | seconds | CPU seconds | {gigabytes} | same |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for variants in dict.fromkeys(c.variants for c in cells if (c.shape, c.layers) == (shape, layers)):
        of_job = [c for c in cells if c.job == (shape, layers, variants)]
        by_hand = taken([c for c in of_job if c.way == "raw"])
        guessed = by_hand is None
        if guessed:
            by_hand = extrapolated(
                [c for c in cells if (c.shape, c.variants, c.way) == (shape, variants, "raw")], layers
            )
        for way, name in _WAYS.items():
            of_way = [c for c in of_job if c.way == way]
            if not of_way:
                continue
            found = taken(of_way)
            why = next((c.why for c in of_way if c.why), "")
            if found is None and way == "raw" and by_hand is not None:
                lines.append(_row(variants, f"≈ {name}", _figures(by_hand, None), f"not run: {why}"))
            elif found is None:
                lines.append(_row(variants, name, [""] * 7, f"not run: {why}"))
            else:
                figures = _figures(found, by_hand if way != "raw" else None)
                lines.append(_row(variants, name, figures, "" if way == "raw" else _sameness(of_way, of_job)))
    return lines


def taken(cells: Sequence[Cell]) -> Taken | None:
    """Return what the rounds of one way took: of times and bytes the median, of peaks the largest."""
    rounds = [c.taken for c in cells if c.taken is not None]
    if not rounds:
        return None
    return replace(
        _each(lambda name: median(getattr(r, name) for r in rounds)),
        **{name: max(getattr(r, name) for r in rounds) for name in ("resident", "anonymous", "disk")},
    )


def extrapolated(cells: Sequence[Cell], layers: int) -> Taken | None:
    """Return what a way would take with so many layers, by a straight line through its runs with others."""
    points = [(c.layers, c.taken) for c in cells if c.taken is not None]
    if len({x for x, _ in points}) < 2:
        return None

    def at(name: str) -> float:
        slope, start = linear_regression([x for x, _ in points], [getattr(t, name) for _, t in points])
        return max(start + slope * layers, 0)

    return _each(at)


def _each(figure: Callable[[str], float]) -> Taken:
    whole = ("resident", "anonymous", "disk", "read", "written", "from_disk", "to_disk")
    return Taken(
        code=0,
        seconds=round(figure("seconds"), 2),
        cpu_seconds=round(figure("cpu_seconds"), 2),
        **{name: round(figure(name)) for name in whole},
    )


def _figures(found: Taken, by_hand: Taken | None) -> list[str]:
    columns = [("seconds", 1.0), ("cpu_seconds", 1.0)]
    columns += [(name, _GB) for name in ("resident", "anonymous", "disk", "from_disk", "written")]
    cells = []
    for name, unit in columns:
        value, base = getattr(found, name) / unit, getattr(by_hand, name) / unit if by_hand is not None else 0
        shown = f"{value:.1f}" if unit == 1 else f"{value:.2f}"
        cells.append(f"{shown} ({value / base:.2f})" if base > 0.005 else shown)
    return cells


def _sameness(of_way: Sequence[Cell], of_job: Sequence[Cell]) -> str:
    """Say whether the files are those made by hand or, where that was not run, those of phi-bot --stock."""
    ours = next(c for c in of_way if c.taken is not None)
    for other in ("raw", "stock"):
        theirs = next((c for c in of_job if c.way == other and c.taken is not None), None)
        if theirs is not None and theirs is not ours:
            break
    else:
        return "nothing to compare with"
    same, differing = True, set[str]()
    for name, files in ours.files.items():
        equal, others = compared(files, theirs.files[name])
        same, differing = same and equal, differing | set(others)
    whom = "" if other == "raw" else " as --stock's"
    return ("yes" if same else "**no**") + whom + (f"; not {', '.join(sorted(differing))}" if differing else "")


def _row(variants: Sequence[str], way: str, figures: Sequence[str], end: str) -> str:
    cells = [", ".join(f"`{v}`" for v in variants), way, *figures, end.replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"
