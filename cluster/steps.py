"""What a start has reached, as `up` prints it line by line: for any number of listeners, who may come late."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from kubeling.daemon.log import get_logger

log = get_logger("cluster.steps")

#: What the bootstrap job reports, in this order; the last two may change places.
STEPS = ("apiserver", "objects", "nodes", "dns")
STEP_TEXTS = {
    "apiserver": "apiserver ready",
    "objects": "system objects made",
    "nodes": "nodes Ready",
    "dns": "DNS answers",
}


class Steps:
    """What has been reached so far, for any number of listeners that may come late."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.done = False
        self._began = time.monotonic()
        self._changed = asyncio.Condition()

    async def add(self, text: str, began: float | None = None, mark: str = "✓", key: str = "") -> None:
        """A step was taken; its time counts from `began`, by default from the start."""
        seconds = time.monotonic() - (self._began if began is None else began)
        log.info("step", step=text, seconds=round(seconds, 3))
        async with self._changed:
            self.taken.append({"step": text, "seconds": round(seconds, 3), "mark": mark, "key": key})
            self._changed.notify_all()

    def missing(self) -> list[str]:
        """In words, what is still awaited."""
        keys = {step["key"] for step in self.taken}
        return [STEP_TEXTS[key] for key in STEPS if key not in keys]

    async def finish(self) -> None:
        async with self._changed:
            self.done = True
            self._changed.notify_all()

    async def follow(self, tell: Any) -> None:
        """Give every step to `tell`, those of the past at once, until the last."""
        told = 0
        async with self._changed:
            while True:
                for step in self.taken[told:]:
                    tell(step)
                told = len(self.taken)
                if self.done:
                    return
                await self._changed.wait()
