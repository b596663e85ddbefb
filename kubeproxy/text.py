"""Names for things in a rule table."""

from __future__ import annotations

import hashlib


def short_hash(text: str) -> str:
    """Ten letters that stand for `text` in a chain's or set's name."""
    digest = hashlib.sha256(text.encode()).digest()
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in digest[:10])


def family_of(address: str) -> int:
    """4 or 6, of an address or range."""
    return 6 if ":" in address else 4
