"""Plays GitHub's token service on loopback: it signs who a workflow is, for whoever holds the job's request token."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

KEY_ID = "the-key"
CLAIMS = {
    "sub": "repo:me/phi-models:environment:promote",
    "repository": "me/phi-models",
    "ref": "refs/heads/main",
    "environment": "promote",
    "job_workflow_ref": "me/phi-models/.github/workflows/promote.yml@refs/heads/main",
}


@dataclass(kw_only=True)
class Issuer:
    """A service at ``url``. ``claims`` is what it says of the workflow; ``minted`` counts what it signed."""

    key: RSAPrivateKey = field(default_factory=lambda: generate_private_key(public_exponent=65537, key_size=2048))
    request_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    claims: dict[str, Any] = field(default_factory=lambda: dict(CLAIMS))
    url: str = ""
    minted: int = 0
    answer: tuple[int, bytes] | None = None  # in place of a token

    def environment(self) -> dict[str, str]:
        """Return what GitHub sets for a job with `id-token: write`."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }

    def sign(self, audience: str, key: RSAPrivateKey | None = None, **more: Any) -> str:
        """Return a token for an audience; ``more`` takes the place of what it would say."""
        now = int(time.time())
        said = {"iss": self.url, "aud": audience, "iat": now, "nbf": now, "exp": now + 300} | self.claims | more
        said = {k: v for k, v in said.items() if v is not None}
        return jwt.encode(said, key or self.key, algorithm="RS256", headers={"kid": KEY_ID})


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Run an issuer until the block ends."""
    running = Issuer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": running}))
    server.daemon_threads = True
    running.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self._send(200, {"issuer": self.issuer.url, "jwks_uri": f"{self.issuer.url}/keys"})
        elif parts.path == "/keys":
            key = jwt.algorithms.RSAAlgorithm.to_jwk(self.issuer.key.public_key(), as_dict=True)
            self._send(200, {"keys": [key | {"kid": KEY_ID, "use": "sig", "alg": "RS256"}]})
        elif parts.path == "/token":
            self._mint(parse_qs(parts.query))
        else:
            self._send(404, {})

    def _mint(self, query: dict[str, list[str]]) -> None:
        if self.issuer.answer is not None:
            self._send_bytes(*self.issuer.answer)
        elif self.headers.get("Authorization") != f"Bearer {self.issuer.request_token}":
            self._send(401, {"message": "wrong request token"})
        elif query.get("api-version") != ["2.0"] or len(query.get("audience", [])) != 1:
            self._send(400, {"message": "the query is not what it was"})
        else:
            self.issuer.minted += 1
            self._send(200, {"value": self.issuer.sign(query["audience"][0])})

    def _send(self, status: int, value: object) -> None:
        self._send_bytes(status, json.dumps(value).encode())

    def _send_bytes(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
