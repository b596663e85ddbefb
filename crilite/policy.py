"""Which images must be signed, and by whom.

``--image-policy FILE`` names a YAML (or JSON) file. The first rule that matches an image's name counts; an image that no rule matches is allowed::

    rules:
    - images: ["registry.example.org/team/**"]    # * is any part of one word of the path, ** any path
      require: signed                             # or: nothing, refuse
      keys: ["/etc/keys/team.pub", "-----BEGIN PUBLIC KEY-----…"]
      identity: any                               # optional: what was signed under another repository's name is good too

Signatures are looked for where cosign puts those of key pairs: at the tag ``sha256-<digest>.sig`` of the image's own repository lies a manifest whose
layers are "simple signing" payloads, each with an ECDSA P-256 signature in an annotation. What is signed is the digest of what the name stands for:
of the index, or of the manifest for this machine.

An image that is here already is only as good as what was found when it came: the store's index says for which repository it was signed by which keys.
One without is not "present" under that name, so that a kubelet asks for it again, and no container is made of it. The file is read again when it has
changed; while it cannot be read nothing passes that is not built in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.crilite.errors import CriError, NotFound, SignatureInvalid
from kubeling.crilite.manifests import parse
from kubeling.crilite.reference import Reference
from kubeling.crilite.reference import parse as parse_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from kubeling.crilite.registry import Source

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_TYPES = ("cosign container image signature", "atomic container signature")
_MAX_SIGNATURES = 50


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    #: Of its public part, as the store's index remembers it.
    fingerprint: str
    public: EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Rule:
    patterns: tuple[str, ...]
    require: str
    keys: tuple[Key, ...] = ()
    any_identity: bool = False

    def matches(self, name: str) -> bool:
        return any(_pattern(one).fullmatch(name) for one in self.patterns)


class Policy:
    """The rules of the file at `path`; without one everything is allowed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._rules: tuple[Rule, ...] = ()

    def rule(self, name: str) -> Rule | None:
        """The rule for ``registry/repository``, if it asks for anything. SignatureInvalid if there is no telling."""
        for one in self._current():
            if one.matches(name):
                return None if one.require == "nothing" else one
        return None

    def _current(self) -> tuple[Rule, ...]:
        if self._path is None:
            return ()
        try:
            info = os.stat(self._path)
            seen = (info.st_ino, info.st_mtime_ns, info.st_size)
            if seen != self._seen:
                self._rules = load(self._path)
                self._seen = seen
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._seen = (0, 0, 0)
            raise SignatureInvalid(f"the image policy {self._path} cannot be read: {error}") from error
        return self._rules

    def allows(self, names: Iterable[str], signed: dict[str, list[str]]) -> bool:
        """Whether an image that `signed` is known of (repository to fingerprints) may be used under all of `names`."""
        for name in names:
            found = self.rule(name)
            if found is not None and not (
                found.require == "signed" and {key.fingerprint for key in found.keys} & set(signed.get(name, ()))
            ):
                return False
        return True

    async def check(self, source: Source, wanted: Reference, digests: list[str]) -> list[str]:
        """Find a signature for one of `digests` as the rule for `wanted` asks; the fingerprints of the keys that have signed.

        SignatureInvalid says why there is none.
        """
        found = self.rule(wanted.name)
        if found is None:
            return []
        if found.require == "refuse":
            raise SignatureInvalid(f"{wanted}: the image policy refuses {', '.join(found.patterns)}")
        reasons: list[str] = []
        for digest in dict.fromkeys(digests):
            good = await _signers(source, wanted, digest, found, reasons)
            if good:
                return good
        keys = ", ".join(key.name for key in found.keys)
        raise SignatureInvalid(f"{wanted}: {'; '.join(dict.fromkeys(reasons))}; the image policy wants a signature by {keys}")


def load(path: Path) -> tuple[Rule, ...]:
    """The rules in the file at `path`. What cannot be understood is an error: a misspelt rule must not let anything pass."""
    import yaml

    body = yaml.safe_load(path.read_text())
    if not isinstance(body, dict) or set(body) - {"rules"}:
        raise ValueError("it must be an object with the key `rules`")
    return tuple(_rule(entry, path.parent) for entry in body.get("rules") or ())


def _rule(entry: dict[str, Any], folder: Path) -> Rule:
    unknown = set(entry) - {"images", "require", "keys", "identity"}
    if unknown:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
    require = entry.get("require", "signed")
    if require not in ("signed", "nothing", "refuse"):
        raise ValueError(f"require: {require!r}: signed, nothing, or refuse")
    keys = tuple(_key(str(one), folder) for one in entry.get("keys") or ())
    if (require == "signed") != bool(keys):
        raise ValueError("a rule with `require: signed` has keys, and no other has")
    identity = entry.get("identity", "repository")
    if identity not in ("repository", "any"):
        raise ValueError(f"identity: {identity!r}: repository or any")
    patterns = tuple(str(one) for one in entry["images"])
    if not patterns:
        raise ValueError("a rule needs images")
    return Rule(patterns, require, keys, identity == "any")


def _key(text: str, folder: Path) -> Key:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    inline = text.lstrip().startswith("-----BEGIN")
    public = serialization.load_pem_public_key(text.strip().encode() if inline else (folder / text).read_bytes())
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise ValueError(f"{'a key' if inline else text} is not an ECDSA P-256 public key")
    raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = hashlib.sha256(raw).hexdigest()
    return Key(f"key {fingerprint[:12]}" if inline else text, fingerprint, public)


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", text)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(one, re.escape(one)) for one in parts))


async def _signers(source: Source, wanted: Reference, digest: str, rule: Rule, reasons: list[str]) -> list[str]:
    """The fingerprints of the rule's keys that have signed `digest`; what is wrong with signatures that do not count goes to `reasons`."""
    try:
        _, _, document = await source.manifest(f"{digest.replace(':', '-')}.sig")
    except NotFound:
        reasons.append(f"it has no signature ({digest})")
        return []
    layers = parse(document, f"the signatures of {wanted}").get("layers") or []
    good: list[str] = []
    for layer in layers[:_MAX_SIGNATURES]:
        if not isinstance(layer, dict) or layer.get("mediaType") != _PAYLOAD:
            continue
        try:
            payload = await source.small_blob(str(layer["digest"]))
            signature = base64.b64decode(layer["annotations"][_SIGNATURE], validate=True)
            good += [key.fingerprint for key in rule.keys if verify(key, payload, signature)]
            if not good:
                reasons.append("it is signed, but by none of the keys")
                continue
            problem = mismatch(payload, wanted, digest, any_identity=rule.any_identity)
            if not problem:
                return good
            reasons.append(problem)
            good = []
        except (KeyError, TypeError, binascii.Error, CriError) as error:
            reasons.append(f"a signature of it is broken ({error!r})")
    if not layers:
        reasons.append(f"it has no signature ({digest})")
    return []


def verify(key: Key, payload: bytes, signature: bytes) -> bool:
    """Whether `signature` (ASN.1) is that of `payload` by `key`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.public.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def mismatch(payload: bytes, wanted: Reference, digest: str, *, any_identity: bool) -> str:
    """Why a payload that is well signed does not speak of this image; empty if it does."""
    critical = parse(payload, "a signature's payload").get("critical") or {}
    if critical.get("type") not in _TYPES:
        return f"what is signed is no image but {critical.get('type')!r}"
    said = (critical.get("image") or {}).get("docker-manifest-digest")
    if said != digest:
        return f"the signature is one of {said}, not of {digest}"
    identity = (critical.get("identity") or {}).get("docker-reference") or ""
    if identity and not any_identity and parse_name(identity).name != wanted.name:
        return f"it was signed as {identity}, and is used as {wanted.name}"
    return ""
