"""Records as a person reads them: tables on standard output."""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bot.building.cleaning import Cleaned
from bot.catalogue.sizes import SizedRow
from bot.checking.findings import CheckReport
from bot.cli.diagnose import Finding
from bot.cli.family_support import FamilyResult
from bot.live.trials import Tried
from bot.pages.new_classes import tools_to_move
from bot.printable import duration, printable, size
from bot.records.artifacts import Artifact, Failure, Proposal, Report, Staged, Variant
from bot.records.evidence import Distance, Evidence
from bot.records.plans import Job, Plan, WatchedSources
from bot.state.attempts import Attempted

_LAST_COLUMN = 16  # the least width in which words can be read
_ANY = 10_000  # columns: more than any line has
_MARKS = {"ok": "ok", "warn": "note", "missing": "missing"}


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    """Lay out text. Cells are Text, never markup: names may come from strangers. The last column may wrap."""
    table = Table(box=None, show_header=any(columns), pad_edge=False, padding=(0, 2, 0, 0))
    cells = [tuple(map(printable, row)) for row in rows]
    *most, last = columns
    for number, column in enumerate(most):
        title, right = column.removeprefix(">"), column.startswith(">")
        width = max([len(title), *(cell_len(row[number]) for row in cells)])
        table.add_column(title, justify="right" if right else "left", no_wrap=True, min_width=width)
    table.add_column(last, overflow="fold", min_width=_LAST_COLUMN)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _print(what: Table | str) -> None:
    # Nothing is cut: a pipe has no width, and a terminal too narrow for a table wraps its lines.
    console = Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _ANY)
    if isinstance(what, Table):
        least = Measurement.get(console, console.options.update(width=_ANY), what).minimum
        console.width = max(console.width, least)
        console.print(what)
    else:
        console.print(Text("\n".join(map(printable, what.split("\n")))))


def watched(found: WatchedSources) -> None:
    """Print sources, and what is new about them."""
    if not found.sightings and not found.notices and not found.finetunes:
        _print("No release found.")
        return
    rows = [(s.repo_id, (s.commit or "a folder")[:12], (s.content_digest or "unusable")[:12]) for s in found.sightings]
    if rows:
        _print(_table(("release", "commit", "content"), rows))
    for notice in (*found.notices, *found.finetunes):
        _print(f"{notice.what:<10} {notice.repo_id}: {notice.text}")
    for new in found.new_classes or ():
        tools = ", ".join(f"{tool.package} {tool.version}" for tool in tools_to_move(new.name))
        _print(f"not yet    {new.name}, the class of {', '.join(new.models)}: to move would be {tools}")


def checked(found: CheckReport) -> None:
    """Print what was found of a repo, and what nothing of it proves."""
    _print(f"{found.repo_id} at {found.commit[:12]}")
    words = {"open": "not proven"}
    _print(_table(("", "", ""), [(words.get(f.outcome, f.outcome), f.about, f.detail) for f in found.findings]))
    _print("None of this proves that the weights in the files are the original's: building them again does.")


def attempts(found: Sequence[Attempted]) -> None:
    """Print what failed so far, how often, and when it is tried again."""
    if not found:
        _print("Nothing failed.")
        return
    for a in found:
        when = "waits for `phi-bot retry`" if a.next is None else f"is tried again after {a.next}"
        _print(f"{a.variant} of {a.release}, {a.attempts} times, last {a.last}, {when}: {a.words}")
        _print(f"           {a.hint}")


def variants(rows: Sequence[Variant], sized: Sequence[SizedRow], parameters: int | None) -> None:
    """Print rows of the catalogue, and those that take a size; sizes need the number of parameters of a model."""
    table = []
    for name, of_format in groupby(rows, key=lambda v: v.format):
        for v in of_format:
            estimate = size(parameters * v.bits_per_weight / 8) if parameters else f"{v.bits_per_weight:g}"
            table.append((v.name, v.precision, estimate, v.target, "yes" if v.default else "", v.summary))
        for row in (r for r in sized if r.format == name):
            least, most = (
                map(size, row.sizes(parameters)) if parameters else (f"{row.least_bits:g}", f"{row.most_bits:g}")
            )
            table.append((row.pattern, "by size", f"{least} to {most}", row.target, "", row.summary))
    _print(_table(("variant", "precision", ">size" if parameters else ">bits/weight", "runs on", "default", ""), table))


def plan(todo: Plan) -> None:
    """Print what there is to do."""
    releases = [job.release for job in todo.jobs]
    for note in dict.fromkeys(f"{r.label}: {note}" for r in releases for note in (*r.notes, r.read_as) if note):
        _print(f"note       {note}")
    for job in todo.jobs:
        _print(_job_line(job))
    if len(todo.jobs) > 1 and all(job.placement is not None for job in todo.jobs):
        _print(f"in all     {_totals(todo.jobs)}")
    for planned in todo.done:
        _print(f"published  {planned.variant.name} in {planned.repo_id}")
    for later in todo.postponed:
        _print(f"not now    {later.planned.variant.name} of {later.release}: {later.text}")
    failures(todo.failures)
    if not todo.jobs:
        _print("Nothing to do.")


_WORTH_SAYING = 1_000_000  # bytes of scratch


def _job_line(job: Job) -> str:
    e = job.estimate
    names = ", ".join(v.variant.name for v in job.variants)
    scratch = f"{size(e.disk)} of scratch, " if e.disk >= _WORTH_SAYING else ""
    line = (
        f"build      {names} of {job.release.label}: about {size(e.output)} to publish, "
        f"{scratch}{size(e.memory)} of memory"
    )
    if (there := job.placement) is not None:
        cost = f", ${there.cost:.2f}" if there.cost else ""
        line += f", {duration(there.seconds)} on {there.runner}{cost}"
    return line


def _totals(jobs: Sequence[Job]) -> str:
    placed = [job.placement for job in jobs if job.placement is not None]
    cost = sum(p.cost for p in placed)
    published = size(sum(job.estimate.output for job in jobs))
    return (
        f"{len(jobs)} jobs: about {published} to publish, {duration(sum(p.seconds for p in placed))} of machines, "
        f"{f'${cost:.2f}' if cost else 'at no cost'}"
    )


def artifacts(found: Sequence[Artifact]) -> None:
    """Print artifacts, with their evidence where there is some."""
    rows = [(a.build.variant.name, size(a.build.size), *_figures(a.evidence), a.folder) for a in found]
    if rows:
        _print(_table(("variant", ">size", *_FIGURES, "folder"), rows))


def publications(report: Report) -> None:
    """Print what is on the Hub now."""
    rows = [
        (b.build.variant.name, size(b.build.size), *_figures(b.evidence), p.url)
        for p in report.publications
        for b in p.builds
    ]
    if rows:
        _print(_table(("variant", ">size", *_FIGURES, "published in"), rows))


def staged(found: Sequence[Staged]) -> None:
    """Print what waits to be promoted."""
    if found:
        rows = [(s.build.variant.name, size(s.build.size), f"{s.repo_id}/{s.folder}") for s in found]
        _print(_table(("variant", ">size", "staged in"), rows))


def proposals(found: Sequence[Proposal]) -> None:
    """Print what can be tried in pull requests on the Hub."""
    rows = [(b.build.variant.name, size(b.build.size), *_figures(b.evidence), p.url) for p in found for b in p.builds]
    if rows:
        _print(_table(("variant", ">size", *_FIGURES, "proposed in"), rows))


_FIGURES = (">mean KL", ">beyond the switch", ">same top token")


def _figures(evidence: Evidence | None) -> tuple[str, str, str]:
    """Return mean KL below and above the LongRoPE switch, in nats, and the lowest top-1 agreement."""
    if evidence is None:
        return "", "", ""
    sides = {d.side: d for d in evidence.recommended}
    short, long = (_with_error(sides[s], "mean_kl") if s in sides else "" for s in ("short", "long"))
    agreement = min((d.figures.top1_agreement for d in sides.values()), default=None)
    return short, long, "" if agreement is None else f"{agreement:.1%}"


def evidence(artifact: Artifact) -> None:
    """Print what verifying measured on an artifact: every check, then every figure with its standard error."""
    found = artifact.evidence
    if found is None:
        return
    _print(f"{artifact.build.variant.name} in {found.runtime or 'no runtime'}: {found.seconds:.1f} s")
    _print(_table(("", "", ""), [("ok" if c.passed else "failed", c.name, c.detail) for c in found.checks]))
    if found.distances:
        rows = [
            (d.side, f"{d.tokens}", *(_with_error(d, name) for name in _MEASURED), d.setting) for d in found.distances
        ]
        _print(_table(("windows", ">tokens", *(f">{title}" for title in _MEASURED.values()), "setting"), rows))
    if found.cost is not None:
        cost = found.cost
        decode = "not timed" if cost.decode_rate is None else f"{cost.decode_rate:.0f}"
        _print(
            f"loads in {cost.load_seconds:.2f} s, {size(cost.peak_memory)} of memory; tokens a second: "
            f"prefill {cost.prefill_rate:.0f}, decode {decode} ({found.machine}, {cost.threads} threads)"
        )
    _print("")


_MEASURED = {
    "mean_kl": "mean KL",
    "p99_kl": "p99 KL",
    "max_kl": "max KL",
    "top1_agreement": "same top token",
    "perplexity_ratio": "perplexity ratio",
}


def _with_error(distance: Distance, name: str) -> str:
    value, error = getattr(distance.figures, name), getattr(distance.standard_errors, name)
    if name == "top1_agreement":
        return f"{value:.1%} ± {error * 100:.1f}"
    return f"{value:.5f} ± {error:.5f}" if name == "mean_kl" else f"{value:.4f} ± {error:.4f}"


def matrix(cells: Sequence[FamilyResult]) -> None:
    """Print the support matrix: mean KL on each side of the LongRoPE switch, or why there is no file."""
    formats = list(dict.fromkeys(c.variant for c in cells))
    rows = [
        (family, *(_cell(c) for c in cells if c.family == family)) for family in dict.fromkeys(c.family for c in cells)
    ]
    _print(_table(("family", *formats), rows))
    for reason in dict.fromkeys((c.status, c.variant, c.family, c.reason) for c in cells if c.reason):
        status, variant, family, why = reason
        _print(f"{status:<10} {variant} of {family}: {why}")


def _cell(cell: FamilyResult) -> str:
    if cell.figures is None:
        return cell.status
    return " / ".join(f"{d.figures.mean_kl:.4f}" for d in cell.figures.distances if not d.setting)


def cleaned(found: Cleaned, *, dry_run: bool) -> None:
    """Print what went of a working folder, or would go: the largest first."""
    if found.removed:
        rows = [
            (size(each.size), each.state, f"{max(each.days, 0):.0f}", each.path)
            for each in sorted(found.removed, key=lambda each: -each.size)
        ]
        _print(_table((">size", "what", ">days", "path"), rows))
    _print(f"{size(found.freed)} {'would be' if dry_run else 'are'} freed, {size(found.kept)} kept.")


def failures(found: Sequence[Failure]) -> None:
    """Print what failed, each with what to do."""
    for f in found:
        _print(f"failed     {f.variant} of {f.release}, at {f.step}: {f.message}")
        _print(f"           {f.hint}")


def findings(found: Sequence[Finding]) -> None:
    """Print what the doctor found."""
    _print(_table(("", "", ""), [(_MARKS[f.status], f.name, f.detail) for f in found]))
    for f in found:
        if f.status != "ok" and f.what_to_do:
            _print(f"{f.name}: {f.what_to_do}")


def tried(rows: Sequence[Tried]) -> None:
    """Print which calls were tried on the live services, what each showed, and what to do about those that failed."""
    cells = [
        (row.status, row.call, row.expected, f"{row.seconds:.2f}" if row.status != "not tried" else "", row.seen)
        for row in rows
    ]
    _print(_table(("", "call", "expected", ">seconds", "seen"), cells))
    for row in rows:
        if row.what_to_do:
            _print(f"{row.call}: {row.what_to_do}")
