"""The loop that keeps this node's packet rules in step with the policies.

While no policy exists anywhere, nothing is followed but the policies themselves, and there is no table: a cluster that does not use them does not pay.
From the first policy on pods and namespaces are followed too, and an address in this node's range that belongs to no pod known here is let through to
nobody: a pod is isolated before it is known.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api.meta import key_of, labels_of, name_of, namespace_of, spec_of
from kubeling.api.resources import NAMESPACES, NETWORK_POLICIES, NODES, PODS
from kubeling.client.informer import Change, Informer, InformerFactory
from kubeling.client.rest import Client
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock, SystemClock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import Supervisor
from kubeling.kubeproxy.nft import Table
from kubeling.kubeproxy.nftwatch import NftWatch
from kubeling.kubeproxy.policy import ruleset
from kubeling.kubeproxy.policy.index import Index
from kubeling.kubeproxy.policy.model import pod_of, policy_of, slim
from kubeling.kubeproxy.policy.ruleset import Builder, Ruleset

log = get_logger("kubeproxy.policy")

#: Changes that come together are applied together.
BATCH_SECONDS = 0.005


class PolicyKeeper:
    """Run :meth:`run` as a task; `problem` says what is wrong, None while all is well."""

    def __init__(
        self, client: Client, informers: InformerFactory, *, node: str, watch: NftWatch, clock: Clock | None = None
    ) -> None:
        self._client, self._informers, self._clock = client, informers, clock or SystemClock()
        self._node = node
        self._index = Index(node)
        self._builder = Builder(self._index)
        self._table = Table(ruleset.TABLE, watch)
        self._applied: tuple[Ruleset, tuple[str, ...]] | None = None
        #: How often somebody else changed the table: while we did, too, it is not known what is there now.
        self._doubts = 0
        self._dirty = asyncio.Event()
        self._pods: Informer | None = None
        #: Whether a table may be there.
        self._present = True
        self.problem: str | None = None
        watch.listen(self._table.name, self._distrust)
        self._policies = informers.informer(NETWORK_POLICIES)
        self._policies.add_handler(self._on_policy)
        self._nodes = informers.informer(NODES)
        self._nodes.add_handler(self._on_node)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._policies.synced.wait()
        self._dirty.set()
        backoff = Backoff(base=0.1, limit=30)
        async with Supervisor(self._clock) as parts:
            while True:
                await self._dirty.wait()
                await self._clock.sleep(BATCH_SECONDS)
                self._dirty.clear()
                try:
                    await self._sync(parts)
                except OSError as error:
                    self.problem = f"network policies: {error}"
                    log.error("cannot enforce the policies, trying again", error=str(error))
                    self._applied = None
                    await self._clock.sleep(backoff.next())
                    self._dirty.set()
                else:
                    self.problem = None
                    backoff.reset()

    async def _sync(self, parts: Supervisor) -> None:
        if not self._index.any_policy:
            if self._present:
                await self._table.apply(ruleset.removal())
            self._present, self._applied = False, None
            return
        await self._follow(parts)
        ranges = self._ranges()
        wanted = self._builder.build()
        self._index.keep_only(wanted.scopes)
        if self._applied is not None and self._applied[1] == ranges:
            script = ruleset.changes(self._applied[0], wanted)
        else:
            script = ruleset.full(wanted, ranges)
        if not script:
            return
        incremental, self._applied, self._present, doubts = self._applied is not None, None, True, self._doubts
        try:
            await self._table.apply(script)
        except OSError as error:
            if not incremental:
                raise
            log.warning("the rules are not what we left there, making them anew", error=str(error))
            await self._table.apply(ruleset.full(wanted, ranges))
        if doubts == self._doubts:
            self._applied = wanted, ranges

    async def _follow(self, parts: Supervisor) -> None:
        """From the first policy on: who the pods are."""
        if self._pods is None:
            log.info("there are network policies: following the pods")
            self._pods = Informer(self._client, PODS, transform=slim, clock=self._clock)
            self._pods.add_handler(self._on_pod)
            namespaces = self._informers.informer(NAMESPACES)
            namespaces.add_handler(self._on_namespace)
            parts.start("pods", self._pods.run)
            await namespaces.synced.wait()
        await self._pods.synced.wait()
        await self._nodes.synced.wait()

    def _ranges(self) -> tuple[str, ...]:
        """The pods' addresses of this node."""
        own = self._nodes.store.get(self._node)
        if own is None:
            return ()
        return tuple(spec_of(own).get("podCIDRs") or filter(None, [spec_of(own).get("podCIDR")]))

    def _distrust(self) -> None:
        log.warning("somebody else has changed our rules, making them anew")
        self._applied, self._present = None, True
        self._doubts += 1
        self._dirty.set()

    def _on_policy(self, change: Change) -> None:
        obj = change.obj
        try:
            policy = policy_of(obj) if change.new is not None else None
        except (ValueError, KeyError, TypeError) as error:
            # Written past validation. Half of a policy would allow what the whole forbids or the other way round: the last good state stays.
            log.error("a policy cannot be understood", policy=key_of(obj), error=str(error))
            return
        if self._index.set_policy(namespace_of(obj), name_of(obj), policy):
            self._dirty.set()

    def _on_pod(self, change: Change) -> None:
        if self._index.set_pod(key_of(change.obj), pod_of(change.new) if change.new is not None else None):
            self._dirty.set()

    def _on_namespace(self, change: Change) -> None:
        if self._index.set_namespace(name_of(change.obj), dict(labels_of(change.obj)) if change.new is not None else None):
            self._dirty.set()

    def _on_node(self, change: Change) -> None:
        def view(obj: dict[str, Any] | None) -> object:
            return obj and (spec_of(obj).get("podCIDRs"), spec_of(obj).get("podCIDR"))

        if name_of(change.obj) == self._node and view(change.old) != view(change.new):
            self._dirty.set()
