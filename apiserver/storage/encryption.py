"""Secrets at rest: what goes to the store is encrypted, as an EncryptionConfiguration says (KEP-3299's ancestor, without KMS).

The stored form is upstream's: `k8s:enc:<provider>:v1:<key's name>:` and then the provider's own bytes, so that a store can be taken over from, and by, a
kube-apiserver with the same configuration. What is read is decrypted by whichever provider and key its prefix names; what is written is encrypted with the first key of the
first provider. An object that was written with another is stale, and is written anew by an update that changes nothing: that is how keys are rotated.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kubeling.api.resources import Resource
from kubeling.apiserver.storage.errors import Undecryptable
from kubeling.daemon.main import UsageError

_PREFIX = b"k8s:enc:"
_VERSIONS = ("apiserver.config.k8s.io/v1", "v1")
_AES_SIZES = (16, 24, 32)


class Opened(NamedTuple):
    """What was stored; `stale` where it would be stored in another form today."""

    value: bytes
    stale: bool


class Cipher(Protocol):
    """One provider with one key. `key` is the store's, which the value is bound to where the provider can do that."""

    def seal(self, key: bytes, value: bytes) -> bytes: ...

    def open(self, key: bytes, sealed: bytes) -> bytes:
        """Raises Exception of the provider's own for what was tampered with."""


class _AesGcm:
    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(secret)

    def seal(self, key: bytes, value: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, value, key)

    def open(self, key: bytes, sealed: bytes) -> bytes:
        return self._aead.decrypt(sealed[:12], sealed[12:], key)


class _AesCbc:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def _cipher(self, start: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        return Cipher(algorithms.AES(self._secret), modes.CBC(start))

    def seal(self, key: bytes, value: bytes) -> bytes:
        from cryptography.hazmat.primitives.padding import PKCS7

        start = os.urandom(16)
        padder, encryptor = PKCS7(128).padder(), self._cipher(start).encryptor()
        sealed: bytes = encryptor.update(padder.update(value) + padder.finalize()) + encryptor.finalize()
        return start + sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        from cryptography.hazmat.primitives.padding import PKCS7

        unpadder, decryptor = PKCS7(128).unpadder(), self._cipher(sealed[:16]).decryptor()
        return unpadder.update(decryptor.update(sealed[16:]) + decryptor.finalize()) + unpadder.finalize()


class _SecretBox:
    def __init__(self, secret: bytes) -> None:
        from nacl.secret import SecretBox

        self._box = SecretBox(secret)

    def seal(self, key: bytes, value: bytes) -> bytes:
        return bytes(self._box.encrypt(value))

    def open(self, key: bytes, sealed: bytes) -> bytes:
        return bytes(self._box.decrypt(sealed))


_CIPHERS: dict[str, tuple[type[Any], tuple[int, ...]]] = {
    "aesgcm": (_AesGcm, _AES_SIZES),
    "aescbc": (_AesCbc, _AES_SIZES),
    "secretbox": (_SecretBox, (32,)),
}


class Transformer:
    """The providers of one kind: prefixes and ciphers in their order; no cipher stands for `identity`."""

    def __init__(self, ways: Sequence[tuple[bytes, Cipher | None]]) -> None:
        self._ways = tuple(ways)

    def seal(self, key: str, value: bytes) -> bytes:
        """As it goes to the store."""
        prefix, cipher = self._ways[0]
        return value if cipher is None else prefix + cipher.seal(key.encode(), value)

    def open(self, key: str, stored: bytes) -> Opened:
        """As it was. Raises Undecryptable."""
        is_sealed = stored.startswith(_PREFIX)
        for at, (prefix, cipher) in enumerate(self._ways):
            if cipher is None:
                if not is_sealed:
                    return Opened(stored, at > 0)
            elif stored.startswith(prefix):
                try:
                    return Opened(cipher.open(key.encode(), stored[len(prefix) :]), at > 0)
                except Exception as error:
                    raise Undecryptable(f'unable to transform key "{key}": the data cannot be decrypted') from error
        why = "no matching prefix found" if is_sealed else "the data is not encrypted, and there is no identity provider"
        raise Undecryptable(f'unable to transform key "{key}": {why}')


class Encryption:
    """Which transformer a kind has."""

    def __init__(self, entries: Sequence[tuple[tuple[str, ...], Transformer]] = ()) -> None:
        self._entries = tuple(entries)

    def of(self, resource: Resource) -> Transformer | None:
        """The first entry that names the kind; None for what is stored as it is."""
        for names, transformer in self._entries:
            if resource.qualified in names or f"*.{resource.group}" in names or "*.*" in names:
                return transformer
        return None


def load(path: str) -> Encryption:
    """Read an EncryptionConfiguration. UsageError for what is none; an empty path is no encryption."""
    if not path:
        return Encryption()
    flag = f"--encryption-provider-config {path}"
    import yaml

    try:
        document = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{flag} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("kind") not in ("EncryptionConfiguration", "EncryptionConfig"):
        raise UsageError(f"{flag}: it has to be an EncryptionConfiguration")
    if document.get("apiVersion") not in _VERSIONS:
        raise UsageError(f"{flag}: its apiVersion has to be {_VERSIONS[0]}")
    entries: list[tuple[tuple[str, ...], Transformer]] = []
    for at, each in enumerate(document.get("resources") or ()):
        where = f"{flag}: resources[{at}]"
        names = tuple(str(name) for name in each.get("resources") or ())
        if not names:
            raise UsageError(f"{where}.resources: which kinds?")
        entries.append((names, Transformer(_ways(where, each.get("providers") or ()))))
    if not entries:
        raise UsageError(f"{flag}: it has no resources, so nothing would be encrypted")
    return Encryption(entries)


def _ways(where: str, providers: Sequence[Mapping[str, Any]]) -> list[tuple[bytes, Cipher | None]]:
    ways: list[tuple[bytes, Cipher | None]] = []
    for at, provider in enumerate(providers):
        name = next(iter(provider), "")
        if len(provider) != 1 or (name not in _CIPHERS and name != "identity"):
            known = ", ".join((*_CIPHERS, "identity"))
            raise UsageError(f"{where}.providers[{at}]: it has to be exactly one of {known}; KMS plug-ins are not supported")
        if name == "identity":
            ways.append((b"", None))
            continue
        keys = (provider[name] or {}).get("keys") or ()
        if not keys:
            raise UsageError(f"{where}.providers[{at}].{name}.keys: at least one key is needed")
        for key in keys:
            ways.append(_way(f"{where}.providers[{at}].{name}", name, key))
    if not ways:
        raise UsageError(f"{where}.providers: at least one is needed")
    return ways


def _way(where: str, provider: str, key: Mapping[str, Any]) -> tuple[bytes, Cipher]:
    name = str(key.get("name") or "")
    if not name or ":" in name:
        raise UsageError(f"{where}: a key needs a name, without colons")
    kind, sizes = _CIPHERS[provider]
    try:
        secret = base64.b64decode(str(key.get("secret") or ""), validate=True)
    except binascii.Error:
        raise UsageError(f"{where}: the secret of key {name} has to be base64") from None
    if len(secret) not in sizes:
        raise UsageError(
            f"{where}: the secret of key {name} has {len(secret)} bytes; it has to have {' or '.join(map(str, sizes))}"
        )
    return f"k8s:enc:{provider}:v1:{name}:".encode(), kind(secret)
