"""TLS of the API endpoint: client certificates are asked for and may be anything; who is believed is decided in :mod:`.authn.x509`.

Python's ssl module can ask for a certificate only if it also breaks the handshake over one that does not verify. OpenSSL itself leaves that to a callback, so
the callback is set there directly. Where that is not possible (another Python, OpenSSL linked in statically) the handshake stays strict: clients with
foreign certificates then see a broken connection where they should see a 401, and nothing else changes.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from collections.abc import Callable
from typing import Any

_VERIFY_PEER = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


#: OpenSSL's ERR_clear_error, once it is found.
_CLEAR: list[Callable[[], Any]] = []


def _go_on(verified: int, store: int | None) -> int:
    # A signature that does not verify leaves errors in OpenSSL's queue, which would be taken for those of the handshake's next step.
    for each in _CLEAR:
        each()
    return 1


#: Lives as long as the module: OpenSSL keeps a pointer to it.
_GO_ON = _CALLBACK(_go_on)


def server_context(cert: str, key: str, *client_cas: str) -> ssl.SSLContext:
    """The server's context. Certificates are asked of clients where there are authorities for them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    # Clients of Kubernetes keep connections, not sessions: nobody would come back with a ticket.
    context.num_tickets = 0
    for each in client_cas:
        context.load_verify_locations(each)
    if client_cas:
        context.verify_mode = ssl.CERT_OPTIONAL
        tolerate(context)
    return context


def tolerate(context: ssl.SSLContext) -> bool:
    """Let handshakes succeed whatever certificate the client shows. Whether that could be arranged."""
    if sys.implementation.name != "cpython":
        return False
    import _ssl

    library = getattr(_ssl, "__file__", None)
    if library is None:
        return False
    try:
        openssl = ctypes.CDLL(library)
        set_verify, get_mode = openssl.SSL_CTX_set_verify, openssl.SSL_CTX_get_verify_mode
        _CLEAR[:] = [openssl.ERR_clear_error]
    except (OSError, AttributeError):
        return False
    set_verify.argtypes, set_verify.restype = [ctypes.c_void_p, ctypes.c_int, _CALLBACK], None
    get_mode.argtypes, get_mode.restype = [ctypes.c_void_p], ctypes.c_int
    # The first member behind the object's head is the SSL_CTX pointer.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or get_mode(pointer) != _VERIFY_PEER:
        return False
    set_verify(pointer, _VERIFY_PEER, _GO_ON)
    return True


def peer_chain(tls: Any) -> list[bytes]:
    """What the client showed, DER, its own certificate first; unverified."""
    own = tls.getpeercert(binary_form=True)
    if own is None:
        return []
    chain = tls._sslobj.get_unverified_chain() or ()
    others = [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain]
    return [own, *(each for each in others if each != own)]
