"""Client certificates: the common name is the user, each organisation a group.

Chains are verified here and not in the TLS handshake: who shows a certificate that is expired or from elsewhere shall be told so by a 401 in HTTP, as upstream
does it, and not by a broken connection. (The handshake does prove that the client has the certificate's key.) What was verified is remembered until it
expires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeling.apiserver.authn.frontproxy import FrontProxy
from kubeling.apiserver.authn.user import REJECTED, User, authenticated
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_DEPTH = 5
_REMEMBERED = 4096
#: For how long a connection with the same certificates is taken for the same peer without another look.
_RECENT_SECONDS = 60.0
_MAX_RECENT = 512


class ClientCertificates:
    """Believes certificates that were issued by one of the authorities in a PEM file, for client authentication."""

    def __init__(self, path: str, clock: Clock, flag: str = "--client-ca-file") -> None:
        from cryptography.x509 import load_pem_x509_certificates

        try:
            self._roots = load_pem_x509_certificates(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(f"{flag} {path}: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{flag} {path}: holds no certificate in PEM: {error}") from error
        self._clock = clock
        self._known: dict[bytes, tuple[User, datetime]] = {}

    def user_of(self, chain: Sequence[bytes]) -> User | None:
        """The user that a chain (DER, the client's own first) stands for, None without one; REJECTED where it is not to be believed."""
        if not chain:
            return None
        known = self._known.get(chain[0])
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        from cryptography.x509 import load_der_x509_certificate

        try:
            found = [load_der_x509_certificate(each) for each in chain[:_MAX_DEPTH]]
            if not self._is_trusted(found[0], found[1:]) or not _is_for_clients(found[0]):
                return REJECTED
        except ValueError:
            return REJECTED
        user = _name(found[0], chain[0])
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        # With intermediates in between, the leaf's own end is not the whole story: these are verified every time.
        if any(_issued(found[0], root) for root in self._roots):
            self._known[chain[0]] = (user, found[0].not_valid_after_utc)
        return user

    def _is_trusted(self, certificate: Certificate, others: Sequence[Certificate], depth: int = 0) -> bool:
        now = self._clock.now()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc or depth > _MAX_DEPTH:
            return False
        for root in self._roots:
            if _issued(certificate, root) and root.not_valid_before_utc <= now <= root.not_valid_after_utc:
                return True
        return any(
            _issued(certificate, other) and _is_authority(other) and self._is_trusted(other, others, depth + 1)
            for other in others
            if other is not certificate
        )


class Peer:
    """Who is at the other end of a connection, for as long as the certificate is good."""

    __slots__ = ("_clock", "_end", "_user")

    def __init__(self, user: User | FrontProxy | None, end: float, clock: Clock) -> None:
        self._user = user
        self._end = end
        self._clock = clock

    @property
    def user(self) -> User | FrontProxy | None:
        """The user or proxy, REJECTED once the certificate's time is over."""
        return self._user if self._clock.now().timestamp() < self._end else REJECTED


class Peers:
    """Looks at what a connection shows: a client's certificate, or that of an authenticating proxy in front of the server."""

    def __init__(
        self, clients: ClientCertificates | None, proxies: ClientCertificates | None, names: Collection[str], clock: Clock
    ) -> None:
        self._clock = clock
        self._clients = clients
        self._proxies = proxies
        #: The proxies' common names; any where there are none.
        self._names = frozenset(names)
        #: Clients open many connections at once when they start. By what they showed: who that is, until when, and when it was found.
        self._recent: dict[tuple[bytes, ...], tuple[User | FrontProxy, float, float]] = {}

    def peer_of(self, chain: Sequence[bytes]) -> Peer | None:
        """Who shows that chain (DER, its own certificate first); None without one."""
        if not chain:
            return None
        shown, now = tuple(chain), self._clock.monotonic()
        recent = self._recent.get(shown)
        if recent is not None and now < recent[2] + _RECENT_SECONDS:
            return Peer(recent[0], recent[1], self._clock)
        found = self._user_of(chain)
        if found is None or found is REJECTED:
            return Peer(found, float("inf"), self._clock)
        from cryptography.x509 import load_der_x509_certificate

        end = load_der_x509_certificate(chain[0]).not_valid_after_utc.timestamp()
        if len(self._recent) >= _MAX_RECENT:
            self._recent.clear()
        self._recent[shown] = (found, end, now)
        return Peer(found, end, self._clock)

    def _user_of(self, chain: Sequence[bytes]) -> User | FrontProxy | None:
        """REJECTED where the chain is not to be believed."""
        user = self._clients.user_of(chain) if self._clients is not None else None
        if self._proxies is None:
            return user
        proxy = self._proxies.user_of(chain)
        if proxy is None or proxy is REJECTED or (self._names and proxy.name not in self._names):
            return user
        return FrontProxy(user)


def _issued(certificate: Certificate, by: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    if certificate.issuer != by.subject:
        return False
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _extension(certificate: Certificate, kind: Any) -> Any:
    from cryptography.x509 import ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None


def _is_authority(certificate: Certificate) -> bool:
    from cryptography.x509 import BasicConstraints

    constraints = _extension(certificate, BasicConstraints)
    return constraints is not None and bool(constraints.ca)


def _is_for_clients(certificate: Certificate) -> bool:
    from cryptography.x509 import ExtendedKeyUsage
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    usages = _extension(certificate, ExtendedKeyUsage)
    return usages is None or Usage.CLIENT_AUTH in usages or Usage.ANY_EXTENDED_KEY_USAGE in usages


def _name(certificate: Certificate, der: bytes) -> User:
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = tuple(str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    extra = {"authentication.kubernetes.io/credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    return authenticated(str(names[0].value), groups, "", extra) if names and names[0].value else REJECTED
