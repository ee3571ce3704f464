"""Envelopes: signed by one key, verified by its public half and by nothing else, and read by securesystemslib too."""

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.dsse import Envelope as OtherEnvelope

from bot.errors import ConfigError, NotReadyError
from bot.publishing.envelopes import KEY_VARIABLE, Envelope, Signer, public_key_of, signer_of
from tests.publishing.keys import key_pair


def signer(file: Path) -> Signer:
    found = signer_of(file, {})
    assert found is not None
    return found


@pytest.mark.parametrize("private", [None, generate_private_key(SECP256R1())], ids=["ed25519", "ecdsa"])
def test_a_signature_holds_for_its_own_key_and_its_own_text(tmp_path: Path, private: Any) -> None:
    pem, public = key_pair(tmp_path, private=private)
    _, other = key_pair(tmp_path, "other")
    signed = signer(pem).sign(b"{}")
    read = Envelope.read(signed.line())
    assert read == signed
    assert public_key_of(public).verifies(read)
    assert not public_key_of(other).verifies(read)
    assert not public_key_of(public).verifies(replace(read, payload=b"{ }"))
    assert not public_key_of(public).verifies(replace(read, signatures=()))


def test_another_tool_reads_the_line_and_verifies_it(tmp_path: Path) -> None:
    pem, public = key_pair(tmp_path)
    line = signer(pem).sign(b"{}").line()
    other = OtherEnvelope.from_dict(json.loads(line))
    key = public_key_of(public).key
    assert other.verify([key], 1) == {key.keyid: key}


def test_both_alphabets_of_base64_are_read() -> None:
    whole = Envelope(payload=bytes(range(256)), signatures=(("", base64.b64decode("+//+")),))
    line = json.loads(whole.line())
    url_safe = str.maketrans("+/", "-_")
    other = line | {"payload": line["payload"].translate(url_safe), "signatures": [{"keyid": "", "sig": "-__-"}]}
    assert other["payload"] != line["payload"]
    assert Envelope.read(json.dumps(other).encode()) == whole


def test_what_an_envelope_says_of_its_key_is_not_believed(tmp_path: Path) -> None:
    """The hint is not signed: a wrong one hides no good signature, and the right one makes none good."""
    pem, public = key_pair(tmp_path)
    mallory, _ = key_pair(tmp_path, "mallory")
    key = public_key_of(public)
    ((_, good),) = signer(pem).sign(b"{}").signatures
    ((_, bad),) = signer(mallory).sign(b"{}").signatures
    assert key.verifies(Envelope(payload=b"{}", signatures=(("anything", good),)))
    assert not key.verifies(Envelope(payload=b"{}", signatures=((key.key_id, bad),)))
    assert key.verifies(Envelope(payload=b"{}", signatures=((key.key_id, bad), (key.key_id, good))))


def test_the_environment_may_hold_the_key_and_a_file_goes_before_it(tmp_path: Path) -> None:
    pem, _ = key_pair(tmp_path)
    other, _ = key_pair(tmp_path, "other")
    environ = {KEY_VARIABLE: f"\n{pem.read_text()}\n"}
    by_environment, by_file = signer_of(None, environ), signer_of(other, environ)
    assert by_environment is not None
    assert by_file is not None
    assert by_environment.key_id == signer(pem).key_id
    assert by_file.key_id == signer(other).key_id
    assert signer_of(None, {KEY_VARIABLE: " "}) is None


def test_what_is_not_a_key_is_said_without_a_word_of_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    for given, environ in ((file, {}), (None, {KEY_VARIABLE: file.read_text()})):
        with pytest.raises(ConfigError, match="no Ed25519 or ECDSA private key") as caught:
            signer_of(given, environ)
        assert "c2VjcmV0" not in f"{caught.value.message}{caught.value.hint}{caught.value.__context__}"


def test_a_passphrase_another_kind_of_key_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    private = Ed25519PrivateKey.generate()
    locked.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(ConfigError, match="with a passphrase"):
        signer_of(locked, {})
    rsa, public = key_pair(tmp_path, "rsa", generate_rsa(65537, 2048))
    with pytest.raises(ConfigError, match="no Ed25519 or ECDSA private key"):
        signer_of(rsa, {})
    with pytest.raises(ConfigError, match="no Ed25519 or ECDSA public key"):
        public_key_of(public)
    with pytest.raises(ConfigError, match="cannot read"):
        signer_of(tmp_path / "none.pem", {})
    with pytest.raises(ConfigError, match="no Ed25519 or ECDSA public key"):
        public_key_of(key_pair(tmp_path)[0])


def test_a_signer_has_no_text_that_could_be_logged(tmp_path: Path) -> None:
    pem, _ = key_pair(tmp_path)
    body = pem.read_text().splitlines()[1]
    assert body not in repr(signer(pem))
    assert "crypto" not in repr(signer(pem))


def test_without_the_extra_a_key_is_an_error_with_the_remedy_and_no_key_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, _ = key_pair(tmp_path)
    monkeypatch.setitem(sys.modules, "securesystemslib", None)
    monkeypatch.setattr("bot.publishing.envelopes.find_spec", lambda name: None)
    with pytest.raises(NotReadyError) as caught:
        signer_of(pem, {})
    assert "phi-bot[sign]" in caught.value.hint
    assert signer_of(None, {}) is None
