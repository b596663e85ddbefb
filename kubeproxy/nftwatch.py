"""Noticing that somebody else has changed our tables.

The kernel tells every transaction of nftables to a multicast group: a message for each change, then one with the number of the new generation (linux/netfilter/nf_tables.h). So nothing has to be looked at while nothing happens, and what another program flushes is there again
some milliseconds later.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable

from kubeling.daemon.log import get_logger
from kubeling.kubeproxy.nfnetlink import NETLINK_NETFILTER, attributes_of, messages

log = get_logger("kubeproxy.nft")

#: NFNLGRP_NFTABLES is group 7.
_GROUPS = 1 << 6
_SUBSYSTEM = 10
_NEW_GENERATION = 15
_TABLE_NAME = 1
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20


class NftWatch:
    """Calls the listener of a table after a transaction of somebody else that touched it.

    The pid in the kernel's message is that of the machine's first pid namespace, in which a node does not live: so whose a transaction is, is known by
    counting. Each of ours is announced before it is made, and is one message; what comes unannounced is another's.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, Callable[[], None]] = {}
        self._expected: Counter[str] = Counter()
        self._touched: set[str] = set()
        #: Set while the kernel tells us.
        self.listening = asyncio.Event()

    def listen(self, table: str, listener: Callable[[], None]) -> None:
        """Tables go by their name without the family."""
        self._listeners[table] = listener

    def expect(self, table: str) -> None:
        """We are about to change it, in one transaction."""
        self._expected[table] += 1

    def refused(self, table: str) -> None:
        """The announced transaction did not come about."""
        self._expected[table] = max(0, self._expected[table] - 1)

    async def run(self) -> None:
        """Listen until cancelled. Where the kernel does not let us, nothing is noticed, and that is said once."""
        try:
            listener = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
        except OSError as error:
            log.warning("changes that others make to our rules will not be noticed", error=str(error))
            await asyncio.Event().wait()
            return
        with listener:
            _enlarge(listener)
            listener.bind((0, _GROUPS))
            # What was announced before is not heard of any more.
            self._expected.clear()
            loop = asyncio.get_running_loop()
            failed: asyncio.Future[None] = loop.create_future()
            loop.add_reader(listener, self._drain, listener, failed)
            self.listening.set()
            try:
                await failed
            finally:
                self.listening.clear()
                loop.remove_reader(listener)

    def _drain(self, listener: socket.socket, failed: asyncio.Future[None]) -> None:
        for _ in range(256):
            try:
                data = listener.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    if not failed.done():
                        failed.set_exception(error)
                    return
                # More happened than the socket holds. A large transaction of our own does that, and is no reason to look.
                self._touched.clear()
                unexpected = [name for name in self._listeners if self._expected.pop(name, 0) <= 0]
                if len(unexpected) == len(self._listeners):
                    self._tell(unexpected)
                continue
            self._take(data)

    def _take(self, data: bytes) -> None:
        for kind, body in messages(data):
            if kind >> 8 != _SUBSYSTEM:
                continue
            if kind & 0xFF != _NEW_GENERATION:
                name = attributes_of(body).get(_TABLE_NAME, b"").rstrip(b"\0").decode(errors="replace")
                if name in self._listeners:
                    self._touched.add(name)
                continue
            touched, self._touched = self._touched, set()
            foreign = []
            for name in sorted(touched):
                if self._expected[name] > 0:
                    self._expected[name] -= 1
                else:
                    foreign.append(name)
            self._tell(foreign)

    def _tell(self, tables: list[str]) -> None:
        for name in tables:
            self._listeners[name]()


def _enlarge(listener: socket.socket) -> None:
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
