"""Ed25519 keys and signatures: who made a bundle, and that nothing in its manifest was changed.

A private key is a PEM file that its owner alone may read, the public one a PEM file beside it (``.pub``), which
goes onto devices. Signatures carry their public key so that damage can be told from an unknown maker; whether a
key is trusted, only the keys that the caller hands in say. Knows no archives.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from forwardpass.errors import InvalidModel, InvalidSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PrivateKey = Ed25519PrivateKey
    PublicKey = Ed25519PublicKey
    Keys = Mapping[str, PublicKey]

log = logging.getLogger(__name__)

PUBLIC_ENDING = ".pub"
MOST_BYTES = 64 * 1024  # of a key or signature file; a real one has hundreds


@dataclass(frozen=True)
class Signature:
    """What ``manifest.sig`` holds; ``public_key`` and ``signature`` are base64 of the raw bytes."""

    key_id: str
    public_key: str
    signature: str


def default_folder() -> Path:
    """Where a person's own keys lie."""
    root = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(root) / "forwardpass"


def public_file(private: Path) -> Path:
    """Where the public half of a private key's file lies."""
    return private.with_suffix(PUBLIC_ENDING)


def create_key(file: Path) -> str:
    """Make a key: the private half at ``file`` (mode 0600), the public one beside it. Gives its id.

    Raises ``InvalidSettings`` where a file is there already or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    public, key = public_file(file), Ed25519PrivateKey.generate()
    if public == file:
        raise InvalidSettings(f"{file}: a private key's file must not end in {PUBLIC_ENDING}; the public one does")
    if public.exists():  # before the private half is there, or the two would not be of one key
        raise InvalidSettings(f"{public}: the key cannot be written: File exists")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_new(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write_new(public, public_pem(key.public_key()), 0o644)
    except OSError as reason:
        raise InvalidSettings(f"{reason.filename or file}: the key cannot be written: {reason.strerror}") from None
    return key_id(key.public_key())


def read_private_key(file: Path) -> PrivateKey:
    """The private key of a PEM file. Raises ``InvalidSettings``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(file), None)
    except (ValueError, TypeError) as reason:  # a TypeError where it has a password
        raise InvalidSettings(f"{file}: is no private key (PEM without password): {reason}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidSettings(f"{file}: is not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")
    return key


def read_public_keys(path: Path) -> dict[str, PublicKey]:
    """Public keys by id: of one file, or of every ``*.pub`` in a folder.

    Raises ``InvalidSettings`` for a file that holds none; in a folder it is left out, for the good ones beside it.
    """
    if not path.is_dir():
        key = _read_public(path)
        return {key_id(key): key}
    keys = []
    for file in sorted(path.glob(f"*{PUBLIC_ENDING}")):
        try:
            keys.append(_read_public(file))
        except InvalidSettings as error:
            log.error("%s; it is left out", error.message)
    return {key_id(key): key for key in keys}


def key_id(key: PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def public_pem(key: PublicKey) -> bytes:
    """What the file of a public key holds."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(data: bytes, key: PrivateKey) -> bytes:
    """The signature over some bytes, as ``manifest.sig`` holds it."""
    return _written(key.public_key(), key.sign(data))


def signer(data: bytes, signature: bytes) -> PublicKey:
    """The key that made the signature, trusted or not. Raises ``InvalidModel`` where the signature does not hold."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        told = msgspec.json.decode(signature, type=Signature)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(told.public_key, validate=True))
        raw = base64.b64decode(told.signature, validate=True)
        key.verify(raw, data)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError) as reason:
        raise InvalidModel(f"the signature cannot be read: {reason}") from None
    except InvalidSignature:
        raise InvalidModel("the signature does not hold: what it was made over was changed") from None
    if signature != _written(key, raw):  # base64 and JSON have several ways to say the same
        raise InvalidModel("the signature is not written as it was made")
    return key


def verify(data: bytes, signature: bytes, keys: Keys) -> str:
    """The id of the trusted key that signed some bytes. Raises ``InvalidModel`` where none of ``keys`` did."""
    found = key_id(signer(data, signature))
    if found not in keys:
        known = f"known are {', '.join(sorted(keys))}" if keys else "no key is known"
        raise InvalidModel(f"signed by the key {found}, which is not trusted here; {known}")
    return found


def _written(key: PublicKey, raw: bytes) -> bytes:
    texts = [base64.b64encode(part).decode() for part in (key.public_bytes_raw(), raw)]
    return msgspec.json.encode(Signature(key_id(key), *texts), order="sorted") + b"\n"


def _read_public(file: Path) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(file))
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSettings(f"{file}: is no public key; give the {PUBLIC_ENDING} file, in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidSettings(f"{file}: is not an Ed25519 key")
    return key


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except OSError as reason:
        raise InvalidSettings(f"{file}: the key cannot be read: {reason.strerror}") from None


def _write_new(file: Path, content: bytes, mode: int) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
        opened.write(content)
