"""Keys and signatures: who signed, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from forwardpass.edge import signing
from forwardpass.errors import InvalidModel, InvalidSettings

DATA = b'{"name": "digits"}'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    signing.create_key(tmp_path / "own.key")
    return tmp_path / "own.key"


def signature(key: Path, data: bytes = DATA) -> bytes:
    return signing.sign(data, signing.read_private_key(key))


def test_what_a_trusted_key_signed_holds(key: Path, tmp_path: Path) -> None:
    keys = signing.read_public_keys(tmp_path)
    (name,) = keys
    assert len(name) == 16
    assert signing.verify(DATA, signature(key), keys) == name
    assert signing.read_public_keys(tmp_path / "own.pub").keys() == {name}


def test_the_private_half_is_its_owners_alone(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert b"PRIVATE" not in signing.public_file(key).read_bytes()


def test_a_key_is_never_replaced(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(InvalidSettings, match=r"own\.pub: the key cannot be written: File exists"):
        signing.create_key(key)
    signing.public_file(key).unlink()
    with pytest.raises(InvalidSettings, match=r"own\.key: the key cannot be written: File exists"):
        signing.create_key(key)
    assert key.read_bytes() == before


def test_another_key_is_not_trusted(key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "other.key"
    name = signing.create_key(other)
    keys = signing.read_public_keys(tmp_path)
    with pytest.raises(InvalidModel, match=f"signed by the key {name}, which is not trusted here; known are"):
        signing.verify(DATA, signature(other), keys)
    with pytest.raises(InvalidModel, match="no key is known"):
        signing.verify(DATA, signature(other), {})
    assert signing.key_id(signing.signer(DATA, signature(other))) == name


def test_every_changed_byte_is_refused(key: Path, tmp_path: Path) -> None:
    keys = signing.read_public_keys(tmp_path)
    made = signature(key)
    for at in range(len(made)):
        changed = bytearray(made)
        changed[at] ^= 1
        with pytest.raises(InvalidModel, match="signature"):
            signing.verify(DATA, bytes(changed), keys)
    with pytest.raises(InvalidModel, match="does not hold"):
        signing.verify(DATA + b" ", made, keys)
    with pytest.raises(InvalidModel, match="cannot be read"):
        signing.verify(DATA, b"", keys)


def test_files_that_are_no_keys(key: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrong = tmp_path / "wrong.pub"
    wrong.write_text("ssh-ed25519 AAAA")
    with pytest.raises(InvalidSettings, match="is no public key"):
        signing.read_public_keys(wrong)
    assert signing.read_public_keys(tmp_path) == signing.read_public_keys(signing.public_file(key))
    assert f"{wrong}: is no public key" in caplog.text
    with pytest.raises(InvalidSettings, match="is no private key"):
        signing.read_private_key(signing.public_file(key))
    with pytest.raises(InvalidSettings, match="cannot be read: No such file"):
        signing.read_private_key(tmp_path / "missing.key")
    (tmp_path / "empty").mkdir()
    assert signing.read_public_keys(tmp_path / "empty") == {}


def test_a_key_of_another_kind(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    file = tmp_path / "other.key"
    file.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InvalidSettings, match="is not an Ed25519 key"):
        signing.read_private_key(file)
