"""TLS of a listening port, whose certificate may be renewed while it listens: the files are looked at when somebody connects, as etcd does it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite.config import TLS

log = get_logger("etcdlite.tls")

Stamp = tuple[tuple[int, int], ...]


class ListeningTLS:
    """`context` is for the listener. Raises UsageError where the files cannot be used."""

    def __init__(self, tls: TLS, *, alpn: Sequence[str] = (), required: bool | None = None) -> None:
        self._tls = tls
        self._alpn = alpn
        self._required = tls.client_auth if required is None else required
        try:
            self._stamp = self._look()
            self.context = self._make()
        except (ssl.SSLError, OSError) as error:
            raise UsageError(f"{tls.cert}, {tls.key} or {tls.ca or 'the CA'} cannot be used: {error}") from None

    def refresh(self) -> None:
        """Take what the files hold now, for connections from here on. Half-written ones are left alone until they are whole."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._make()
            self.context.load_cert_chain(self._tls.cert, self._tls.key)
            if self._tls.ca:
                self.context.load_verify_locations(self._tls.ca)
        except (ssl.SSLError, OSError) as error:
            log.warning("a changed certificate cannot be used, the one before stays", file=self._tls.cert, error=str(error))
            return
        self._stamp = stamp
        log.info("the certificate was read again", file=self._tls.cert)

    def _look(self) -> Stamp:
        stats = [os.stat(path) for path in (self._tls.cert, self._tls.key, self._tls.ca) if path]
        return tuple((one.st_mtime_ns, one.st_ino) for one in stats)

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._alpn:
            context.set_alpn_protocols(list(self._alpn))
        context.load_cert_chain(self._tls.cert, self._tls.key)
        if self._tls.ca:
            context.load_verify_locations(self._tls.ca)
            context.verify_mode = ssl.CERT_REQUIRED if self._required else ssl.CERT_OPTIONAL
        return context
