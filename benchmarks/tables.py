"""Tables of measurements in a page of Markdown, between marks that say which command writes them."""

from collections.abc import Iterable
from pathlib import Path


def put(page: Path, name: str, lines: Iterable[str]) -> None:
    """Put lines into a page, in place of what ``make bench-NAME`` wrote there before."""
    begin, end = f"<!-- {name}: begin, written by make bench-{name} -->", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}", encoding="utf-8")
