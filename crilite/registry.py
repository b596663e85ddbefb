"""Pulling an image: what the name stands for, its blobs side by side, its layers unpacked while others are still coming.

Every endpoint of the registry (see :mod:`kubeling.crilite.endpoints`) is asked in turn until one answers; one that does not have something, breaks off,
or sends something else than was asked for, is passed over for the next. Nothing is believed that its digest does not confirm.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from kubeling.crilite.content import Content
from kubeling.crilite.endpoints import Registries, endpoints
from kubeling.crilite.errors import CriError, RegistryUnavailable
from kubeling.crilite.leases import Lease
from kubeling.crilite.manifests import INDEX_TYPES, MAX_DEPTH, blobs_of, for_this_machine, parse
from kubeling.crilite.policy import Policy
from kubeling.crilite.reference import Reference
from kubeling.crilite.remote import Remote
from kubeling.daemon.log import get_logger
from kubeling.proto import cri_pb2

log = get_logger("crilite.registry")

T = TypeVar("T")
_ALLOW_ALL = Policy(None)


@dataclass(slots=True)
class Progress:
    """How far a pull is: bytes here and bytes in all, by digest. `changed` is called at every change."""

    changed: Callable[[Progress], None] = lambda _progress: None
    here: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    fetched: int = 0
    unpacked: int = 0

    def seen(self, digest: str, size: int) -> None:
        self.fetched += max(0, size - self.here.get(digest, 0))
        self.here[digest] = size
        self.changed(self)


async def pull(
    content: Content,
    wanted: Reference,
    auth: cri_pb2.AuthConfig,
    registries: Registries,
    *,
    policy: Policy = _ALLOW_ALL,
    progress: Progress | None = None,
) -> str:
    """Fetch what is missing of the image, and register it; its id.

    RegistryUnavailable means that nobody could be asked; every other failure is an answer.
    """
    progress = progress or Progress()
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        source = Source(
            [
                await stack.enter_async_context(Remote(one, wanted, auth, registries.idle))
                for one in endpoints(wanted.registry, registries)
            ],
            wanted,
        )
        digest, chosen, document = await _resolve(source, wanted)
        signers = await policy.check(source, wanted, [digest, chosen])
        image = await _fetch(content, source, wanted, (digest, chosen, document), registries.parallel, progress, signers)
    log.info("pulled", image=str(wanted), digest=digest, fetched=progress.fetched, seconds=round(time.monotonic() - began, 2))
    return image


async def _resolve(source: Source, wanted: Reference) -> tuple[str, str, bytes]:
    """(what the name stands for, the digest of the manifest for this machine, that manifest)."""
    kind, digest, document = await source.manifest(wanted.digest or wanted.tag)
    chosen = digest
    for _ in range(MAX_DEPTH):
        if kind not in INDEX_TYPES:
            return digest, chosen, document
        chosen = str(for_this_machine(parse(document, f"the index of {wanted}"))["digest"])
        kind, _, document = await source.manifest(chosen)
    raise CriError(f"{wanted}: indexes of indexes of indexes")


async def _fetch(
    content: Content,
    source: Source,
    wanted: Reference,
    found: tuple[str, str, bytes],
    parallel: int,
    progress: Progress,
    signers: list[str],
) -> str:
    digest, chosen, document = found
    blobs = blobs_of(parse(document, f"the manifest of {wanted}"), str(wanted))
    config, *layers = [one for one, _ in blobs]
    progress.sizes.update(blobs)
    with contextlib.closing(await asyncio.to_thread(content.lease)) as lease:
        await _keep(content, lease, [chosen, *(one for one, _ in blobs)])
        limit = asyncio.Semaphore(parallel)
        arrived = {one: asyncio.Event() for one, _ in blobs}

        async def fetch(one: str, size: int) -> None:
            async with limit:
                if not content.has_blob(one):
                    await source.blob(content, one, size, lambda here: progress.seen(one, here))
            progress.here[one] = size
            progress.changed(progress)
            arrived[one].set()

        async def unpack() -> None:
            await arrived[config].wait()
            _, diff_ids = await asyncio.to_thread(content.configuration, config, layers)
            await _keep(content, lease, content.layer_names(diff_ids))
            for number, one in enumerate(layers):
                await arrived[one].wait()
                await asyncio.to_thread(content.unpack, layers, diff_ids, number, lease.name)
                progress.unpacked = number + 1
                progress.changed(progress)

        try:
            async with asyncio.TaskGroup() as group:
                # The configuration first: it says whether what the others unpack to is right.
                for one, size in dict(blobs).items():
                    group.create_task(fetch(one, size))
                group.create_task(unpack())
        except ExceptionGroup as failures:
            # One is enough to say what is wrong; the others are mostly its consequences.
            raise failures.exceptions[0] from None
        # The digest that names the image is what the tag stands for, be it an index.
        names = [str(Reference(wanted.registry, wanted.repository, wanted.tag))] if wanted.tag and not wanted.digest else []

        def register() -> str:
            with content.locked():
                content.add_blob([document], chosen)
                signed = {wanted.name: signers} if signers else {}
                return content.register(config, layers, names, [f"{wanted.name}@{digest}"], chosen, signed)

        return await asyncio.to_thread(register)


async def _keep(content: Content, lease: Lease, names: list[str]) -> None:
    def keep() -> None:
        with content.locked():
            lease.keep(names)

    await asyncio.to_thread(keep)


class Source:
    """All endpoints of one repository, as if they were one."""

    def __init__(self, remotes: list[Remote], wanted: Reference) -> None:
        self._remotes = remotes
        self._wanted = wanted

    async def manifest(self, what: str) -> tuple[str, str, bytes]:
        need = "pull" if what.startswith("sha256:") else "resolve"
        return await self._any(need, lambda remote: remote.manifest(what))

    async def small_blob(self, digest: str) -> bytes:
        return await self._any("pull", lambda remote: remote.small_blob(digest))

    async def blob(self, content: Content, digest: str, size: int, seen: Callable[[int], None]) -> None:
        await self._any("pull", lambda remote: remote.blob(content, digest, size, seen))

    async def _any(self, capability: str, call: Callable[[Remote], Awaitable[T]]) -> T:
        failures: list[Exception] = []
        for remote in list(self._remotes):
            if capability not in remote.endpoint.capabilities:
                continue
            try:
                return await call(remote)
            except (CriError, httpx.HTTPError) as error:
                failures.append(error)
                if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    # For the rest of this pull the others are asked first.
                    self._remotes.remove(remote)
                    self._remotes.append(remote)
                log.warning("an endpoint fails", image=str(self._wanted), endpoint=remote.endpoint.base, error=repr(error))
        raise _worst(failures, self._wanted)


def _worst(failures: list[Exception], wanted: Reference) -> CriError:
    """The failure that says most: an answer of the registry is worth more than that a mirror could not be reached."""
    answers = [one for one in failures if isinstance(one, CriError)]
    if answers:
        return answers[-1]
    if not failures:
        return CriError(f"cannot pull {wanted}: no endpoint of {wanted.registry} may be asked for that")
    reasons = "; ".join(dict.fromkeys(str(one) or type(one).__name__ for one in failures))
    return RegistryUnavailable(f"cannot pull {wanted}: {reasons}")
