"""Names for things in a rule table, and the lines of nft that lead from one state of it to another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

#: Chain → its rules.
Chains = Mapping[str, tuple[str, ...]]


def short_hash(text: str) -> str:
    """Ten letters that stand for `text` in a chain's or set's name."""
    digest = hashlib.sha256(text.encode()).digest()
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in digest[:10])


def family_of(address: str) -> int:
    """4 or 6, of an address or range."""
    return 6 if ":" in address else 4


def chain_additions(table: str, old: Chains, new: Chains) -> Iterator[str]:
    """Chains that are new, and the rules of those that differ. Chains first without their rules, since these refer to each other."""
    yield from (f"add chain {table} {name}" for name in new if name not in old)
    for name, body in new.items():
        if name in old:
            if old[name] == body:
                continue
            yield f"flush chain {table} {name}"
        yield from (f"add rule {table} {name} {rule}" for rule in body)


def chain_removals(table: str, old: Chains, new: Chains) -> Iterator[str]:
    """To come when nothing refers to the old chains any more but one another."""
    gone = [name for name in old if name not in new]
    yield from (f"flush chain {table} {name}" for name in gone)
    yield from (f"delete chain {table} {name}" for name in gone)


def element_lines(verb: str, table: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    """One line that adds or deletes elements of a set, or of a map (`key : verdict`); none where there is nothing to do."""
    found = list(elements)
    if found:
        yield f"{verb} element {table} {name} {{ {', '.join(found)} }}"


def map_changes(table: str, name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """From key → verdict ("" in a set) to another state of it."""
    yield from element_lines("delete", table, name, (key for key, verdict in old.items() if new.get(key) != verdict))
    added = (f"{key} : {verdict}" if verdict else key for key, verdict in new.items() if old.get(key) != verdict)
    yield from element_lines("add", table, name, added)
