"""Check a token of another issuer: it says that its bearer is a workflow that a repo trusts.

A subject token is a JWT (RFC 7519) that its issuer signed with a key that OpenID Connect Discovery leads to.
"""

import json
from collections.abc import Iterable
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import jwt

from bot.localhub.refused import bad_request
from bot.localhub.settings import Publisher

_ALGORITHMS = ("RS256", "ES256")  # with a public key: anybody could sign with a shared one, or with none
_REQUIRED = ("iss", "aud", "exp", "iat")
_SECONDS = 10.0
_BYTES = 1_000_000


class UntrustedError(Exception):
    """A token that is not taken; why is for the server's log alone."""


def check_publisher(publisher: Publisher) -> Publisher:
    """Return a publisher, or refuse one that would trust anybody, or an issuer that anybody can play."""
    parts = urlsplit(publisher.issuer)
    plain = parts.scheme == "http" and _is_loopback(parts.hostname or "")
    if (parts.scheme != "https" and not plain) or not parts.hostname or "@" in parts.netloc or parts.query:
        raise bad_request(f"{publisher.issuer!r} is not an issuer: give an https address, or one of loopback")
    if not publisher.claims:
        raise bad_request("a publisher without claims would be every workflow of its issuer")
    return publisher


def check_subject(token: str, publishers: Iterable[Publisher], audience: str) -> str:
    """Return the subject of a token that one of the publishers fits. Raises UntrustedError.

    Its issuer is asked for its keys only if a publisher names it: a stranger cannot have this server ask elsewhere.
    """
    try:
        said = jwt.decode(token, options={"verify_signature": False})
        issuer = said.get("iss")
        trusted = [p for p in publishers if p.issuer == issuer]
        if not trusted:
            raise UntrustedError(f"no publisher has the issuer {issuer!a}")
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(trusted[0].issuer, jwt.get_unverified_header(token)),
            algorithms=list(_ALGORITHMS),
            audience=audience,
            issuer=trusted[0].issuer,
            options={"require": list(_REQUIRED)},
        )
    except (jwt.PyJWTError, HTTPException, OSError, ValueError) as error:
        raise UntrustedError(f"{type(error).__name__}: {error}") from error
    if not any(all(claims.get(name) == value for name, value in p.claims.items()) for p in trusted):
        raise UntrustedError("no publisher has its claims")
    return str(claims.get("sub", ""))


def _key(issuer: str, header: dict[str, Any]) -> jwt.PyJWK:
    """Return the key of an issuer that a token says it is signed with."""
    found = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise UntrustedError(f"{issuer} says that it is another issuer")
    keys = jwt.PyJWKSet.from_dict(_get(str(found.get("jwks_uri"))))
    for key in keys.keys:
        if key.key_id == header.get("kid") and key.public_key_use in (None, "sig"):
            return key
    raise UntrustedError(f"{issuer} has no such key")


def _get(address: str) -> dict[str, Any]:
    host = urlsplit(address).hostname or ""
    if not address.startswith("https://") and not (address.startswith("http://") and _is_loopback(host)):
        raise UntrustedError(f"{address!a} is not the address of an issuer")
    with _opener(host).open(Request(address, headers={"Accept": "application/json"}), timeout=_SECONDS) as answer:  # noqa: S310 - checked above
        value = json.loads(answer.read(_BYTES))
    if not isinstance(value, dict):
        raise UntrustedError(f"{address} does not answer with a JSON object")
    return value


def _opener(host: str) -> OpenerDirector:
    return build_opener(ProxyHandler({})) if _is_loopback(host) else build_opener()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
