"""Client certificates: the common name is the user, each organisation a group. The TLS stack has verified the chain already."""

from __future__ import annotations

from typing import Any

from kubeling.apiserver.authn.user import User, authenticated


def user_of(certificate: dict[str, Any] | None) -> User | None:
    """From what `ssl.SSLObject.getpeercert` gives; None where no certificate was shown or it names nobody."""
    if not certificate:
        return None
    name = ""
    groups: list[str] = []
    for rdn in certificate.get("subject", ()):
        for key, value in rdn:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    return authenticated(name, tuple(groups)) if name else None
