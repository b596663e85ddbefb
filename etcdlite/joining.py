"""How a process finds out which member it is: by its data directory, by the flags that found a cluster, or by asking the cluster that it is to join."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeling.daemon.backoff import Backoff
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.etcdlite import identity, membership
from kubeling.etcdlite.config import Config
from kubeling.etcdlite.identity import Identity
from kubeling.etcdlite.journal import sync_directory
from kubeling.etcdlite.peer_transport import ask_members

log = get_logger("etcdlite")


@dataclass(frozen=True, slots=True)
class Place:
    """A member's place. `joins`: the cluster runs, so this member learns who is in it from the others; until then `urls` are where they are to be found."""

    who: Identity
    joins: bool
    urls: Mapping[int, tuple[str, ...]]


async def find_place(config: Config) -> Place:
    """Which member this is. Waits for the cluster where it has to be asked. Raises UsageError."""
    known = identity.load(config.data_dir, config.name)
    has_data = any(any((config.data_dir / part).glob("*")) for part in ("wal", "snap"))
    if known is not None and not (has_data or known.recovering):
        raise UsageError(
            f"{config.data_dir} has lost its log: empty it and let the member join anew, or restore a backup into it"
        )
    if config.existing and (known is None or known.recovering) and not (known is None and has_data):
        return await _join(config)
    who = known or Identity(config.name, config.cluster_id, config.me.id)
    return Place(who, config.existing, {peer.id: peer.peer_urls for peer in config.members})


async def _join(config: Config) -> Place:
    backoff = Backoff(base=0.1, limit=2.0)
    while True:
        for peer in config.others:
            for url in peer.peer_urls:
                try:
                    said = await ask_members(url, config.peer_tls)
                    cluster, member, ran_before, urls = membership.find_self(said, config)
                except (OSError, ValueError) as error:
                    log.info("a member cannot be asked who is in the cluster", url=url, error=str(error))
                    continue
                return Place(Identity(config.name, cluster, member, ran_before), True, urls)
        if not config.others:
            raise UsageError("--initial-cluster-state existing needs --initial-cluster with the members that are there")
        await asyncio.sleep(backoff.next())


def take_directory(directory: Path) -> int:
    """Make the data directory with its parts and lock it; returns the lock's file descriptor. Raises UsageError.

    Their names are on disk when it returns. Else a power failure could take the directory with all the fsynced files in it.
    """
    try:
        new = [path for path in (directory, *directory.absolute().parents) if not path.exists()]
        for path in (directory, directory / "wal", directory / "snap"):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in dict.fromkeys((directory, directory.absolute().parent, *(path.absolute().parent for path in new))):
            try:
                sync_directory(path)
            except PermissionError:
                # One that we may pass through, but not read.
                os.sync()
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--data-dir {directory}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"{directory} is in use by another etcdlite: stop that one, or give another --data-dir") from None
    return lock
