"""Which endpoint has which of its backend's servers. Pure.

HAProxy knows the number of a backend's servers from its files, and learns addresses and states while it runs. So each backend has some servers more than
endpoints, which are slots: an endpoint that comes takes a free one, one that goes leaves its own closed, and nobody else's moves. Only when the slots do not
suffice there have to be more of them, which is a reload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Server = tuple[str, int]
#: Backend → its servers in order; None is one that is closed.
Slots = Mapping[str, tuple[Server | None, ...]]

_FEWEST = 4


def assign(before: Slots, wanted: Mapping[str, Sequence[Server]]) -> dict[str, tuple[Server | None, ...]]:
    """Slots for the `wanted` servers of each backend, as much as can be like `before`."""
    return {name: _assign(before.get(name, ()), servers) for name, servers in wanted.items()}


def _assign(before: Sequence[Server | None], wanted: Sequence[Server]) -> tuple[Server | None, ...]:
    stay = set(wanted)
    made: list[Server | None] = [each if each in stay else None for each in before]
    coming = [each for each in wanted if each not in made]
    # A slot that was free is taken before one that is left just now, whose connections may still be at work.
    free = [place for place, each in enumerate(before) if each is None] + [
        place for place, each in enumerate(before) if each is not None and each not in stay
    ]
    size = _size(len(wanted))
    if len(coming) > len(free):
        free += range(len(made), size)
        made += [None] * (size - len(made))
    elif not before:
        made, free = [None] * size, list(range(size))
    for place, each in zip(free, coming, strict=False):
        made[place] = each
    return tuple(made)


def _size(count: int) -> int:
    """A power of two, with room for a rollout's surge."""
    size = _FEWEST
    while size < count + max(1, count // 4):
        size *= 2
    return size


def commands(before: Slots, after: Slots) -> list[str]:
    """What to tell a running HAProxy so that its servers go from the one to the other; both have the same backends and sizes."""
    said: list[str] = []
    for backend, servers in after.items():
        for number, (old, new) in enumerate(zip(before[backend], servers, strict=True)):
            if old == new:
                continue
            server = f"set server {backend}/s{number}"
            if new is None:
                said.append(f"{server} state maint")
                continue
            said += [f"{server} addr {new[0]} port {new[1]}", f"{server} state ready"]
    return said
