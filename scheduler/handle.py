"""What plugins may use of the scheduler around them: what its informers know, its client, and the pods that wait at *permit*."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubeling.scheduler.nodeinfo import Obj, PodInfo

if TYPE_CHECKING:
    from kubeling.api.labels import Selector
    from kubeling.client.rest import Client
    from kubeling.scheduler.types import Cycle


class WaitingPod:
    """A pod that plugins hold at *permit*. It goes on when every one of them allows it, and is given up when one rejects it or the time is over."""

    def __init__(self, cycle: Cycle, node: str, plugins: Iterable[str]) -> None:
        self.cycle, self.node = cycle, node
        self._pending = set(plugins)
        self._verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def pod(self) -> PodInfo:
        return self.cycle.pod

    def allow(self, plugin: str) -> None:
        """`plugin` has no objection any more."""
        self._pending.discard(plugin)
        if not self._pending and not self._verdict.done():
            self._verdict.set_result("")

    def reject(self, why: str) -> None:
        """Give it up."""
        if not self._verdict.done():
            self._verdict.set_result(why or "rejected")

    async def wait(self) -> str:
        """ "" once it may go on, else why not."""
        return await self._verdict


def _nothing(*_: Any) -> Any:
    return None


def _none_of(*_: Any) -> Any:
    return ()


async def _at_once(_done: Callable[[], bool]) -> None:
    return None


@dataclass(slots=True)
class Handle:
    """The functions read informers. All have defaults that know nothing, so that a plugin can be tried alone."""

    #: Labels of all namespaces.
    namespace_labels: Callable[[], Mapping[str, Mapping[str, str]]] = dict
    #: The selector of the Services and the controller that select a pod.
    default_selector: Callable[[Obj], Selector | None] = _nothing
    #: By namespace and name.
    get_claim: Callable[[str, str], Obj | None] = _nothing
    get_volume: Callable[[str], Obj | None] = _nothing
    volumes: Callable[[], Iterable[Obj]] = _none_of
    get_class: Callable[[str], Obj | None] = _nothing
    get_csi_node: Callable[[str], Obj | None] = _nothing
    #: Returns once the function does, which is asked again whenever a claim changes.
    claims_until: Callable[[Callable[[], bool]], Awaitable[None]] = _at_once
    #: Disruption budgets of a namespace.
    budgets: Callable[[str], Iterable[Obj]] = _none_of
    #: The pods of a namespace, bound or not.
    pods: Callable[[str], Iterable[Obj]] = _none_of
    #: Whether a pod counts on some node, by uid.
    is_placed: Callable[[str], bool] = bool
    rand: Callable[[], float] = random.random
    client: Client | None = None
    #: Asked right before a binding is sent: whether nobody else can be scheduling by now. A leader that slept through its lease hears no.
    may_bind: Callable[[], bool] = lambda: True
    #: A binding that takes longer is given up (seconds): a successor may have come.
    bind_seconds: float | None = None
    waiting: dict[str, WaitingPod] = field(default_factory=dict)
