"""DSSE envelopes: texts with signatures over them, as one line of JSON each.

The format is https://github.com/secure-systems-lab/dsse. Signing and verifying are securesystemslib's, of the extra
``sign``; an envelope without a signature, and reading one, take nothing.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bot.errors import ConfigError, NotReadyError
from bot.records.base import Json
from bot.records.json_text import parse

PAYLOAD_TYPE = "application/vnd.in-toto+json"
KEY_VARIABLE = "PHI_BOT_SIGNING_KEY"  #: holds a private key itself, where a machine has no file for it
_KEY_BYTES = 20_000  # of a PEM file
_KINDS = ("ed25519", "ecdsa")
_MAKE = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one, and `openssl pkey -in key.pem -pubout` its public"


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A payload, and signatures over it: pairs of a hint at the key and the signature itself. All of it untrusted."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def read(cls, line: bytes) -> "Envelope":
        """Read one line. Raises ValueError, saying what it is instead of an envelope of a statement."""
        value = parse(line.decode("utf-8"))
        if not isinstance(value, dict) or value.get("payloadType") != PAYLOAD_TYPE:
            raise ValueError("it is not an envelope of an in-toto statement")
        signatures = value.get("signatures")
        if not isinstance(signatures, list) or not all(isinstance(s, dict) for s in signatures):
            raise ValueError("it has no list of signatures")
        read = tuple((str(s.get("keyid", "")), _decoded(s.get("sig"))) for s in signatures)
        return cls(payload=_decoded(value.get("payload")), signatures=read)

    def line(self) -> bytes:
        """Return it as a line of JSON, without the end of the line. Equal envelopes have equal lines."""
        signatures = [{"keyid": k, "sig": base64.b64encode(s).decode()} for k, s in self.signatures]
        value = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": signatures,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _decoded(value: Json) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a payload or a signature is missing")
    try:  # DSSE allows both alphabets
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("a payload or a signature is not Base64") from error


@dataclass(frozen=True, kw_only=True, repr=False)
class Signer:
    """Signs by a private key, which nothing prints: it has no text of its own."""

    crypto: Any

    @property
    def key_id(self) -> str:
        """The sha256, in hex, of the public key, as securesystemslib counts it."""
        return str(self.crypto.public_key.keyid)

    def sign(self, payload: bytes) -> Envelope:
        """Return a payload in an envelope with one signature."""
        from securesystemslib.dsse import Envelope as Signed

        signature = Signed(payload, PAYLOAD_TYPE, {}).sign(self.crypto)
        return Envelope(payload=payload, signatures=((self.key_id, bytes.fromhex(signature.signature)),))


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """What signatures are verified by."""

    key: Any

    @property
    def key_id(self) -> str:
        """The same as that of its Signer."""
        return str(self.key.keyid)

    def verifies(self, envelope: Envelope) -> bool:
        """Say whether one of an envelope's signatures is by this key. What it says of its key is not believed."""
        from securesystemslib.dsse import Envelope as Signed
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import Signature

        for _, signature in envelope.signatures:
            signed = {self.key_id: Signature(self.key_id, signature.hex())}
            try:
                Signed(envelope.payload, PAYLOAD_TYPE, signed).verify([self.key], 1)
            except VerificationError:
                continue
            return True
        return False


def signer_of(key: Path | None, environ: Mapping[str, str]) -> Signer | None:
    """Return what signs: by the key in a PEM file, or in the environment (KEY_VARIABLE); None where there is neither.

    Raises ConfigError for what is not a private key that can be used as it is, and NotReadyError without the extra
    ``sign``. Neither says anything of the key.
    """
    text = environ.get(KEY_VARIABLE, "").strip()
    if key is None and not text:
        return None
    require_signing()
    where, pem = (str(key), _read(key)) if key is not None else (f"the environment variable {KEY_VARIABLE}", None)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner, SSlibKey

    try:
        private: Any = load_pem_private_key(pem if pem is not None else text.encode(), None)
        public = SSlibKey.from_crypto(private.public_key())
        signer = CryptoSigner(private, public) if public.keytype in _KINDS else None
    except TypeError:
        raise ConfigError(f"{where} holds a private key with a passphrase", hint="Give one without.") from None
    except (ValueError, UnsupportedAlgorithm):
        signer = None
    if signer is None:  # outside of the block: what was raised there may have parts of the key in it
        raise ConfigError(f"{where} holds no Ed25519 or ECDSA private key in PEM", hint=f"{_MAKE}.")
    return Signer(crypto=signer)


def public_key_of(file: Path) -> PublicKey:
    """Return the public key in a PEM file. Raises ConfigError for another file, and NotReadyError as ``signer_of``."""
    require_signing()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        key = SSlibKey.from_crypto(load_pem_public_key(_read(file)))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if key is None or key.keytype not in _KINDS:
        hint = "Give the public half of the key that signs: `openssl pkey -in key.pem -pubout` prints it."
        raise ConfigError(f"{file} holds no Ed25519 or ECDSA public key in PEM", hint=hint)
    return PublicKey(key=key)


def require_signing() -> None:
    """Raise NotReadyError where the extra ``sign`` is not installed."""
    if find_spec("securesystemslib") is None:
        raise NotReadyError(
            "signing, and checking signatures, needs a package that is not installed: securesystemslib",
            hint="Install it with: pip install 'phi-bot[sign]'",
        )


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", hint=f"{_MAKE} half.") from None
