"""The APIServices that name a Service, as they are now: which group and version goes to which server.

Every apiserver follows them by watch. What a server offers (its resources, its OpenAPI document) is noted here by the one who checks on it,
:mod:`.availability`, so that discovery shows it along with our own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kubeling.api import resources
from kubeling.api.conditions import is_true
from kubeling.api.meta import spec_of
from kubeling.api.resources import Resource
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.follower import Follower
from kubeling.apiserver.cache.watcher import Event
from kubeling.apiserver.config import Config
from kubeling.apiserver.outbound import CallFailed
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.reverse import Backend
from kubeling.apiserver.targets import Targets
from kubeling.daemon.log import get_logger

log = get_logger("aggregation")

_CONTEXTS = 64
#: Nobody can take the aggregator's own group over.
_OWN = "apiregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Remote:
    """A group and version that another server serves."""

    name: str
    uid: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    authorities: str
    insecure: bool
    group_priority: int
    version_priority: int
    available: bool

    @property
    def server_name(self) -> str:
        """What the server's certificate has to be for."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def place(self) -> tuple[object, ...]:
        """All that says where requests go."""
        return self.uid, self.namespace, self.service, self.port, self.authorities, self.insecure


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server was last seen to serve: resources, and the place of its OpenAPI document if it has one."""

    resources: tuple[Resource, ...] = ()
    openapi: str = ""


class Aggregated:
    """Run :meth:`run` as a task."""

    def __init__(self, kinds: Kinds, targets: Targets, config: Config) -> None:
        self._targets = targets
        self._config = config
        self._remotes: dict[tuple[str, str], Remote] = {}
        self._offers: dict[tuple[str, str], Offer] = {}
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self.cache = kinds.store(resources.API_SERVICES).cache
        self._follower = Follower(self.cache, self._replace, self._apply)
        #: Called after every change of what discovery shows.
        self.listeners: list[Callable[[], None]] = []
        #: Set by every change of an APIService.
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._follower.run()

    async def loaded(self) -> None:
        """Until the APIServices are known."""
        await self._follower.loaded.wait()

    def __iter__(self) -> Any:
        return iter(list(self._remotes.values()))

    def find(self, group: str, version: str) -> Remote | None:
        """Who serves that, if it is not us."""
        return self._remotes.get((group, version)) if self._remotes else None

    def offer(self, remote: Remote) -> Offer:
        """What it was last seen to serve."""
        return self._offers.get((remote.group, remote.version)) or Offer()

    def note(self, remote: Remote, offer: Offer) -> None:
        """What it serves now."""
        if self._remotes.get((remote.group, remote.version)) and self.offer(remote) != offer:
            self._offers[remote.group, remote.version] = offer
            self._tell()

    async def backend(self, remote: Remote) -> Backend:
        """Where it is now. Raises CallFailed."""
        addresses = await self._targets.addresses(remote.namespace, remote.service, remote.port)
        return Backend(addresses, self._tls(remote), remote.server_name)

    def _tls(self, remote: Remote) -> ssl.SSLContext:
        key = hashlib.sha256(f"{remote.insecure}{remote.authorities}".encode()).hexdigest()
        found = self._contexts.get(key)
        if found is None:
            try:
                found = ssl.create_default_context(cadata=remote.authorities or None)
                if remote.insecure:
                    found.check_hostname = False
                    found.verify_mode = ssl.CERT_NONE
                if self._config.proxy_client_cert_file:
                    found.load_cert_chain(self._config.proxy_client_cert_file, self._config.proxy_client_key_file)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise CallFailed(f"unable to load certificates: {error}") from error
            self._contexts[key] = found
            if len(self._contexts) > _CONTEXTS:
                self._contexts.popitem(last=False)
        return found

    def _replace(self, entries: Iterable[Entry]) -> None:
        self._remotes.clear()
        for each in entries:
            self._take(each)
        self._tell()

    def _apply(self, event: Event) -> None:
        self._drop(event.entry.name)
        if event.type != "DELETED":
            self._take(event.entry)
        self._tell()

    def _take(self, entry: Entry) -> None:
        remote = remote_of(entry.object())
        if remote is not None:
            self._remotes[remote.group, remote.version] = remote

    def _drop(self, name: str) -> None:
        version, _, group = name.partition(".")
        self._remotes.pop((group, version), None)

    def _tell(self) -> None:
        for key in [each for each in self._offers if each not in self._remotes]:
            del self._offers[key]
        self.changed.set()
        for each in self.listeners:
            each()


def remote_of(obj: dict[str, Any]) -> Remote | None:
    """An APIService that names a Service; None for one that does not."""
    spec, metadata = spec_of(obj), obj["metadata"]
    service = spec.get("service")
    if not service or spec.get("group") in (None, "", _OWN):
        return None
    try:
        authorities = base64.b64decode(spec.get("caBundle") or "").decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        authorities = ""
    return Remote(
        name=metadata["name"],
        uid=metadata["uid"],
        group=spec.get("group") or "",
        version=spec.get("version") or "",
        namespace=service.get("namespace") or "",
        service=service.get("name") or "",
        port=service.get("port") or 443,
        authorities=authorities,
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        group_priority=spec.get("groupPriorityMinimum") or 0,
        version_priority=spec.get("versionPriority") or 0,
        available=is_true(obj, "Available"),
    )
