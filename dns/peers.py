"""The other instances: who has fallen silent is no endpoint of the `kube-dns` Service any more.

A machine that dies takes nobody's EndpointSlice with it, and half of all questions would go on being asked of it. So each instance renews a Lease of its own,
and takes away what belongs to a peer whose Lease it has seen unchanged through some renewals of its own. Time is counted in those, not in seconds: while the
apiserver is away nobody can renew, and nobody is judged. Nor is anybody judged by who does not see its own renewals come back, for then it sees nothing of others' either.
Whoever was taken for dead and is not, finds its slices missing and writes them again (see :mod:`register`).
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api.errors import ApiError, is_not_found
from kubeling.api.meta import labels_of, name_of, spec_of
from kubeling.api.resources import ENDPOINT_SLICES, LEASES, Resource
from kubeling.api.times import format_micro_time
from kubeling.client.informer import InformerFactory
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.dns.records import Obj
from kubeling.dns.register import INSTANCE, MANAGED_BY, MANAGER, NAMESPACE, SERVICE, attempt

log = get_logger("dns.peers")

RENEW_SECONDS = 5.0
#: Renewals of our own without one of a peer's, after which it is taken for dead.
PATIENCE = 3
_LABEL = "kubeling.dev/component"


class Judge:
    """Who is silent. Pure: told at each renewal of ours what the Leases look like."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._rounds = 0
        self._seen: dict[str, tuple[str, int]] = {}

    def round(self, leases: Iterable[Obj], written: str) -> list[str]:
        """The names of the Leases of those who are dead; `written` is the renewal of ours that should be among them."""
        renewed = {name_of(each): str(spec_of(each).get("renewTime") or "") for each in leases}
        if renewed.get(self._own) != written:
            return []
        self._rounds += 1
        before, self._seen = self._seen, {}
        for name, at in renewed.items():
            known = before.get(name)
            self._seen[name] = known if known is not None and known[0] == at else (at, self._rounds)
        return [name for name, (_, since) in self._seen.items() if name != self._own and self._rounds - since >= PATIENCE]


class Peers:
    """Keeps our Lease and looks at those of others, until cancelled; then our Lease goes."""

    def __init__(self, client: Client, informers: InformerFactory, instance: str, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._instance = instance
        self._name = f"{SERVICE}-{instance}"
        self._leases = informers.informer(LEASES, namespace=NAMESPACE, label_selector=f"{_LABEL}={SERVICE}")
        self._judge = Judge(self._name)
        self._written = ""

    async def run(self) -> None:
        """A round every few seconds."""
        try:
            while True:
                try:
                    # Of the renewal before this one: its echo has had time to come.
                    dead = self._judge.round(self._leases.store, self._written) if self._written else []
                    for name in dead:
                        await self._bury(name.removeprefix(f"{SERVICE}-"))
                    await self._renew()
                except (ApiError, ConnectionFailed) as error:
                    self._written = ""
                    log.info("cannot renew the lease", error=str(error))
                await self._clock.sleep(RENEW_SECONDS)
        finally:
            await attempt(self._client.delete(LEASES, self._name, NAMESPACE))

    async def _renew(self) -> None:
        now = format_micro_time(self._clock.now())
        spec = {"holderIdentity": self._instance, "leaseDurationSeconds": int(RENEW_SECONDS * PATIENCE), "renewTime": now}
        try:
            await self._client.patch(LEASES, self._name, {"spec": spec}, NAMESPACE)
        except ApiError as error:
            if not is_not_found(error):
                raise
            metadata = {"name": self._name, "namespace": NAMESPACE, "labels": {_LABEL: SERVICE}}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._client.create(LEASES, lease, NAMESPACE)
        self._written = now

    async def _bury(self, instance: str) -> None:
        """Take away a dead peer's slices, then its Lease: what is cut off in between is done by the next round."""
        log.warning("a DNS instance is silent, and no endpoint any more", instance=instance)
        selector = f"{MANAGED_BY}={MANAGER},{INSTANCE}={instance}"
        listed = await self._client.list(ENDPOINT_SLICES, NAMESPACE, label_selector=selector)
        for each in listed["items"]:
            if labels_of(each).get(INSTANCE) == instance:
                await self._delete(ENDPOINT_SLICES, name_of(each))
        await self._delete(LEASES, f"{SERVICE}-{instance}")

    async def _delete(self, resource: Resource, name: str) -> None:
        try:
            await self._client.delete(resource, name, NAMESPACE)
        except ApiError as error:
            if not is_not_found(error):
                raise
