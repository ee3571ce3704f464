"""The summary of a run, as Markdown: for a terminal, a job's summary on GitHub, and a comment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bot import catalogue
from bot.pages import markdown, numbers, templates
from bot.pages.mermaid import Bar, bars
from bot.pages.new_classes import tools_to_move
from bot.printable import size
from bot.records.artifacts import BuildRecord, ProvenBuild, Publication, Report
from bot.records.evidence import Distance, Evidence
from bot.records.plans import NewClass, Notice, Postponed

LARGEST = 1_000_000  # bytes: GitHub takes 1 MiB from a step
_MOST_ROWS = (2000, 500, 100, 20)  # of a table: the most with which all of it has room
_MOST_CHARTS, _MOST_BARS = 10, 24
_LONGEST_TEXT = 1000  # characters of a message


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """A file in a table: where it is, what it is, and what was measured on it. ``where`` is Markdown."""

    where: Markup
    build: BuildRecord
    evidence: Evidence | None

    @property
    def compared(self) -> Distance | None:
        """The distance by which files are compared; None where none was measured."""
        return self.evidence.compared if self.evidence else None

    @property
    def kl(self) -> str:
        """The mean KL there, with its standard error."""
        return numbers.with_error(self.compared, "mean_kl") if self.compared else "not measured"

    @property
    def agreement(self) -> str:
        """The share of its likeliest tokens that are the original's there, in percent."""
        return f"{numbers.percent(self.compared.figures.top1_agreement)} %" if self.compared else ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A heading, and the files under it."""

    title: str
    where: str
    rows: tuple[SummaryRow, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The results of one release, as a picture. ``text`` is Markdown."""

    release: str
    text: Markup


def render_summary(
    report: Report,
    *,
    postponed: Sequence[Postponed] = (),
    notices: Sequence[Notice] = (),
    new_classes: Sequence[NewClass] = (),
    status_page: str | None = None,
) -> str:
    """Return what became of every file, what failed with what to do about it, and what is put off.

    ``notices`` are what is new about the models, ``new_classes`` those of them that cannot be built yet;
    ``status_page`` is its address. Rows of tables are left out, and counted, where the whole would be larger than a
    job's summary may be.
    """
    template = templates.environment().get_template("summary.md.j2")
    found = _tables(report)
    for most in _MOST_ROWS:
        text = template.render(
            tables=found,
            charts=_charts(row for table in found for row in table.rows),
            pictures=[address for p in report.publications for address in _pictures(p)][:_MOST_CHARTS],
            unchanged=any(not p.created for p in report.publications),
            failures=report.failures,
            postponed=postponed,
            notices=notices,
            new_classes=[(one, tools_to_move(one.name)) for one in new_classes],
            status_page=status_page,
            most=most,
            longest=_LONGEST_TEXT,
        )
        if len(text.encode(errors="replace")) <= LARGEST:
            break
    return f"{text.strip()}\n"


def _tables(report: Report) -> list[Table]:
    """Return the tables that are not empty. A file is in one of them: the one of the farthest it came."""
    evidence = {a.build.build_key: a.evidence for a in report.artifacts}
    proposed = [_row(f"{p.repo_id}, pull request {p.number}", p.url, b) for p in report.proposals for b in p.builds]
    staged = [
        SummaryRow(
            where=markdown.code(f"{s.repo_id}/{s.folder}"), build=s.build, evidence=evidence.get(s.build.build_key)
        )
        for s in report.staged
    ]
    gone_on = {b.build.build_key for p in report.publications for b in p.builds}
    gone_on |= {b.build.build_key for p in report.proposals for b in p.builds}
    gone_on |= {s.build.build_key for s in report.staged}
    left = [
        SummaryRow(where=markdown.code(a.build.source.label), build=a.build, evidence=a.evidence)
        for a in report.artifacts
        if a.build.build_key not in gone_on and a.evidence is not None
    ]
    tables = (
        Table(title="Published", where="Repo", rows=tuple(_published(report.publications, created=True))),
        Table(title="Proposed", where="Pull request", rows=tuple(proposed)),
        Table(title="Staged", where="Folder", rows=tuple(staged)),
        Table(title="Proven", where="Model", rows=tuple(left)),
        Table(title="Already published", where="Repo", rows=tuple(_published(report.publications, created=False))),
    )
    return [table for table in tables if table.rows]


def _published(publications: Sequence[Publication], *, created: bool) -> Iterator[SummaryRow]:
    for publication in publications:
        if publication.created == created:
            yield from (_row(publication.repo_id, publication.url, proven) for proven in publication.builds)


def _row(text: str, url: str, proven: ProvenBuild) -> SummaryRow:
    return SummaryRow(where=markdown.link(text, url), build=proven.build, evidence=proven.evidence)


def _pictures(publication: Publication) -> list[tuple[str, str]]:
    """Return the repo and the addresses of the pictures beside its card, at the commit that put them there."""
    at = f"{publication.url}/resolve/{publication.commit}"
    return [(publication.repo_id, f"{at}/{name}") for name in publication.pictures]


def _charts(rows: Iterable[SummaryRow]) -> list[Chart]:
    """Return a chart for each release of which there is something to compare, the smallest file on top.

    Only variants of the catalogue go into one: their names are ours.
    """
    grouped: dict[str, list[tuple[BuildRecord, float]]] = {}
    for row in rows:
        if row.compared is not None and catalogue.known(row.build.variant.name) is not None:
            entry = (row.build, row.compared.figures.mean_kl)
            grouped.setdefault(row.build.source.label, []).append(entry)
    charts = []
    for release, entries in grouped.items():
        if len(entries) > 1:
            ordered = sorted(entries, key=lambda entry: entry[0].size)[:_MOST_BARS]
            found = [Bar(label=f"{build.variant.name}, {size(build.size)}", value=kl) for build, kl in ordered]
            charts.append(Chart(release=release, text=bars("Mean KL from the original, nats per token", found)))
    return charts[:_MOST_CHARTS]
