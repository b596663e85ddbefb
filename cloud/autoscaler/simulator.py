"""What would fit is asked of the scheduler itself: the pods' own rules, its plugins, its configuration, and no second copy of either.

The scheduler that leads says on its Lease where its status port is and whose pods it schedules; `POST /simulate` there takes a supposed cluster and pods to
place in it (see the module `simulate` of the scheduler for the question). Where nodes live in a network namespace of their own, the port is dialled from
inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import h11
import orjson

from kubeling.api.meta import annotations_of, spec_of
from kubeling.api.resources import LEASES
from kubeling.client.rest import Client
from kubeling.cloud.provider import Obj
from kubeling.cloud.providers.dialer import Dialer

_ADDRESS = "scheduling.kubeling.dev/status-address"
_PROFILES = "scheduling.kubeling.dev/profiles"
#: What the scheduler may take over one question (seconds).
ASK_SECONDS = 60.0
_READ = 64 * 1024
_MAX_ANSWER = 32 * 1024 * 1024


class SimulationFailed(Exception):
    """Nobody could say what would fit."""


@dataclass(slots=True)
class Supposed:
    """A supposed cluster: nodes that are gone, nodes that are there already with what they run, and what may be added."""

    remove: list[str] = field(default_factory=list)
    add: list[tuple[Obj, list[Obj]]] = field(default_factory=list)
    grow: tuple[Obj, list[Obj], int] | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pod would go. `kind` is "there", "added" or "grown"; "" where it goes nowhere, for these `reasons`."""

    node: str = ""
    kind: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the pods would go, in their order, and how many nodes were added."""

    placements: tuple[Placement, ...]
    grown: int = 0


class Simulator(Protocol):
    """Says what would fit. Raises SimulationFailed where it cannot."""

    async def ask(self, supposed: Supposed, pods: Sequence[Obj]) -> Outcome: ...


def scheduler_of(pod: Obj) -> str:
    """Whose pod it is."""
    return str(spec_of(pod).get("schedulerName") or "default-scheduler")


class SchedulerSimulator:
    """Asks the scheduler that schedules the first of the pods."""

    def __init__(self, client: Client, dialer: Dialer) -> None:
        self._client, self._dialer = client, dialer

    async def ask(self, supposed: Supposed, pods: Sequence[Obj]) -> Outcome:
        if not pods:
            return Outcome(())
        question: Obj = {
            "remove": supposed.remove,
            "add": [{"node": node, "pods": there} for node, there in supposed.add],
            "pods": list(pods),
        }
        if supposed.grow is not None:
            node, there, most = supposed.grow
            question["grow"] = {"node": node, "pods": there, "max": most}
        host, port = await self._address(scheduler_of(pods[0]))
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await self._post(host, port, orjson.dumps(question))
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            raise SimulationFailed(f"the scheduler at {host}:{port} does not answer: {error!r}") from error
        return Outcome(
            tuple(
                Placement(each["node"], each.get("kind", ""), tuple(each.get("reasons") or ())) for each in answer["placements"]
            ),
            int(answer["grown"]),
        )

    async def _address(self, scheduler: str) -> tuple[str, int]:
        listed = await self._client.list(LEASES, namespace="kube-system")
        for lease in listed.get("items") or ():
            said = annotations_of(lease)
            host, _, port = (said.get(_ADDRESS) or "").rpartition(":")
            if scheduler in (said.get(_PROFILES) or "").split(",") and port.isdecimal():
                return host.strip("[]"), int(port)
        raise SimulationFailed(f"no scheduler says that it schedules for {scheduler}")

    async def _post(self, host: str, port: int, body: bytes) -> Obj:
        reader, writer = await asyncio.open_connection(sock=await self._dialer.connect(host, port))
        try:
            connection = h11.Connection(h11.CLIENT)
            headers = [("host", host), ("content-length", str(len(body))), ("connection", "close")]
            sent = connection.send(h11.Request(method="POST", target="/simulate", headers=headers)) or b""
            sent += connection.send(h11.Data(data=body)) or b""
            sent += connection.send(h11.EndOfMessage()) or b""
            writer.write(sent)
            await writer.drain()
            return await _answer(connection, reader)
        finally:
            writer.close()


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Obj:
    status, found = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            found += event.data
            if len(found) > _MAX_ANSWER:
                raise SimulationFailed("the scheduler's answer has no end")
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise ConnectionError("the scheduler hung up")
    if status != 200:
        raise SimulationFailed(f"the scheduler answered {status}: {bytes(found[:500]).decode(errors='replace').strip()}")
    answer: Obj = orjson.loads(found)
    return answer
