"""Long lists in pages, with the header ``Link`` that leads to the next."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from bot.localhub.web import Request, Response, json_response


def page_of(request: Request, items: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
    """Return the items of the page that is asked for, and the headers that tell of the next."""
    longest = request.hub.limits.page
    size = max(1, min(request.number("limit", longest), longest))
    start = request.number("cursor", 0)
    headers = {"X-Total-Count": str(len(items))}
    if start + size < len(items):
        query = {**request.query, "cursor": [str(start + size)]}
        headers["Link"] = f'<{request.base}{request.path}?{urlencode(query, doseq=True)}>; rel="next"'
    return items[start : start + size], headers


def paged(request: Request, items: Sequence[Any]) -> Response:
    """Return one page of JSON items."""
    page, headers = page_of(request, items)
    return json_response(page, headers=headers)
