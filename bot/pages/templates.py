"""The Jinja2 templates of cards, summaries and pages, with escaping that nothing has to ask for.

In a template named ``*.html`` or ``*.html.j2`` every value is escaped as HTML, and what is hidden in it is shown
(bot/printable.py); in one named ``*.md.j2`` it is escaped as Markdown (bot/pages/markdown.py). The filters ``code``,
``fence``, ``link``, ``picture``, ``unbroken``, ``sh`` and ``py`` put a value in its own kind of place.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bot.pages import markdown
from bot.printable import duration, shown, size


@cache
def environment() -> jinja2.Environment:
    """Return the one environment that all templates of the project are read in."""
    # Autoescaping is on for Markdown too: ``finalize`` has made Markup of the values, and macros are left as they are.
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        code=markdown.code,
        fence=markdown.fence,
        link=markdown.link,
        picture=markdown.picture,
        sh=markdown.shell,
        py=markdown.python,
        md=markdown.escape,
        unbroken=markdown.unbroken,
        size=size,
        duration=duration,
    )
    return made


@jinja2.pass_context
def _finalize(context: jinja2.runtime.Context, value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        return value
    if (context.name or "").endswith(".md.j2"):
        return markdown.escape(value)
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _folder() -> Path:
    package = Path(__file__).parents[1]
    packaged = package / "templates"  # in a wheel; a checkout has them beside the package
    return packaged if packaged.is_dir() else package.parent / "templates"
