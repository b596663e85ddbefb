"""To which node a connection goes: round-robin over the healthy ones, a node that just did not answer last."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

#: How long a node that could not be dialled is only tried after the others.
PENALTY = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A node's address and name."""

    node: str
    address: str


class Targets:
    """The nodes of one Service. Replace them by :meth:`set`; connections under way are left alone."""

    def __init__(self) -> None:
        self._targets: tuple[Target, ...] = ()
        self._turn = itertools.count()
        self._failed: dict[str, float] = {}
        self.sticky = False

    def __len__(self) -> int:
        return len(self._targets)

    def set(self, targets: Sequence[Target], *, sticky: bool = False) -> None:
        """From now on these; `sticky` sends a client always to the same one as long as it is there."""
        self._targets = tuple(targets)
        self.sticky = sticky
        here = {each.address for each in targets}
        self._failed = {address: at for address, at in self._failed.items() if address in here}

    def order(self, client: str, now: float) -> list[Target]:
        """In which order to try them for a client."""
        if not self._targets:
            return []
        if self.sticky:
            ranked = sorted(
                self._targets, key=lambda each: hashlib.blake2b(f"{client} {each.node}".encode(), digest_size=8).digest()
            )
        else:
            start = next(self._turn) % len(self._targets)
            ranked = [*self._targets[start:], *self._targets[:start]]
        return sorted(ranked, key=lambda each: now - self._failed.get(each.address, -PENALTY) < PENALTY)

    def failed(self, target: Target, now: float) -> None:
        """It could not be dialled."""
        self._failed[target.address] = now

    def answered(self, target: Target) -> None:
        """It could."""
        self._failed.pop(target.address, None)
