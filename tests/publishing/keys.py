"""Keys to sign with, made for a test."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def key_pair(folder: Path, name: str = "key", private: Any = None) -> tuple[Path, Path]:
    """Write a private key and its public half as PEM, and return the files."""
    private = private or Ed25519PrivateKey.generate()
    pem, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pem.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return pem, public
