"""Throwing away images that nobody uses: when the image file system is fuller than the high threshold, until it is below the low one.

The images that were not used for longest go first; one that a container uses, that the runtime has pinned, or that is younger than the minimum age stays.
When an image was used last is known since this kubelet started, so a new one begins by taking everything for fresh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet.cri import Runtime, RuntimeFailure

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

log = get_logger("kubelet.imagegc")

ROUND_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Percentages of the image file system, and seconds. `maximum_age` 0 means that age alone is no reason."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0

    def problem(self) -> str:
        """What is wrong with it; empty where nothing is."""
        if not (0 <= self.low <= self.high <= 100):
            return f"--image-gc-low-threshold={self.low} and --image-gc-high-threshold={self.high}: 0 <= low <= high <= 100"
        return ""


@dataclass(slots=True)
class _Seen:
    first: float
    used: float


class ImageCollector:
    """`tell` records an event about the node: reason and message. `filesystem` gives what is free and what there is, in bytes."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        policy: ImagePolicy,
        filesystem: Callable[[], tuple[int, int]],
        tell: Callable[[str, str], None],
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._policy = policy
        self._filesystem = filesystem
        self._tell = tell
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Look every five minutes, until cancelled."""
        while True:
            await self._clock.sleep(ROUND_SECONDS)
            try:
                await self.round()
            except (RuntimeFailure, OSError) as error:
                log.warning("images could not be looked at", error=str(error))

    async def round(self) -> None:
        """One look, and what follows from it."""
        images = await self._look()
        policy = self._policy
        if policy.maximum_age:
            now = self._clock.monotonic()
            old = [each for each in images if now - self._seen[each.id].used > policy.maximum_age]
            await self._remove(old, None)
        if policy.high == 100:
            return
        free, capacity = self._filesystem()
        if not capacity or 100 - free * 100 // capacity < policy.high:
            return
        wanted = capacity * (100 - policy.low) // 100 - free
        log.info("the image file system is nearly full, unused images go", free=free, wanted=wanted)
        freed = await self._remove(images, wanted)
        if freed < wanted:
            self._tell(
                "FreeDiskSpaceFailed",
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
                f"but only found {freed} bytes eligible to free.",
            )

    async def everything(self) -> int:
        """Remove all unused images; the bytes that that freed. For when the disk is short already."""
        return await self._remove(await self._look(), None)

    async def _look(self) -> list[cri_pb2.Image]:
        """The images that are not in use, the longest unused first; remembers when each was used."""
        now = self._clock.monotonic()
        images = await self._runtime.images()
        used = set()
        for each in await self._runtime.list_containers():
            used |= {each.image.image, each.image_ref, each.image_id}
        unused = []
        for image in images:
            seen = self._seen.setdefault(image.id, _Seen(now, now))
            if used & {image.id, *image.repo_tags, *image.repo_digests}:
                seen.used = now
            elif not image.pinned:
                unused.append(image)
        for gone in set(self._seen) - {each.id for each in images}:
            del self._seen[gone]
        return sorted(unused, key=lambda each: (self._seen[each.id].used, self._seen[each.id].first))

    async def _remove(self, images: list[cri_pb2.Image], wanted: int | None) -> int:
        """Remove those of them that are old enough, until `wanted` bytes are free."""
        freed = 0
        for image in images:
            if wanted is not None and freed >= wanted:
                break
            if self._clock.monotonic() - self._seen[image.id].first < self._policy.minimum_age:
                continue
            try:
                await self._runtime.remove_image(image.id)
            except RuntimeFailure as error:
                log.warning("an unused image could not be removed", image=image.id, error=str(error))
                continue
            self._seen.pop(image.id, None)
            freed += image.size
            log.info("an unused image was removed", image=(list(image.repo_tags) or [image.id])[0], bytes=image.size)
        return freed
