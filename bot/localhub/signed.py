"""Addresses that carry their own right: the client uploads and downloads LFS content without its token."""

import hashlib
import hmac
import time
from http import HTTPStatus
from urllib.parse import urlencode

from bot.localhub.refused import RefusedError
from bot.localhub.web import Request

LIFETIME = 24 * 3600  # seconds


def sign(request: Request, path: str, **fields: str | int) -> str:
    """Return the whole address of ``path`` with fields that nobody can change, good for a day."""
    known = {**{k: str(v) for k, v in fields.items()}, "expires": str(int(time.time()) + LIFETIME)}
    return f"{request.base}{path}?{urlencode({**known, 'signature': _signature(request, path, known)})}"


def signed_fields(request: Request) -> dict[str, str]:
    """Return the fields of a signed address; a 403 when a part of it was changed, or it is too old."""
    fields = {k: v[0] for k, v in request.query.items() if len(v) == 1}
    signature = fields.pop("signature", "")
    if not hmac.compare_digest(signature.encode(), _signature(request, request.path, fields).encode()):
        raise RefusedError(HTTPStatus.FORBIDDEN, "the signature of this address is wrong")
    if int(fields["expires"]) < time.time():
        raise RefusedError(HTTPStatus.FORBIDDEN, "this address is too old: ask for a new one")
    return fields


def _signature(request: Request, path: str, fields: dict[str, str]) -> str:
    text = f"{path}?{urlencode(sorted(fields.items()))}"
    return hmac.new(request.hub.secret, text.encode(), hashlib.sha256).hexdigest()
