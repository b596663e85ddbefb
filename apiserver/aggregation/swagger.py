"""What other servers say of their groups in OpenAPI version 2, whose one document has to hold everybody's kinds.

It is fetched when the document is asked for, of all servers at once, and kept for a minute; of a server that does not answer in time, what it said last is shown. Of an answer only the
paths of the group and version that the server is for are taken, and the definitions that these lead to.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.openapi import gnostic, merge
from kubeling.apiserver.aggregation import identity
from kubeling.apiserver.aggregation.fetch import AGGREGATOR, fetch_json
from kubeling.apiserver.aggregation.registry import Aggregated, Remote
from kubeling.apiserver.outbound import CallFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("aggregation")

_SECONDS = 5.0
_KEPT = 60.0
Json = dict[str, Any]
#: What a server's document was made for.
_Key = tuple[str, str, tuple[object, ...]]


class Swagger:
    """The documents of all servers that are available. `changed` counts the times that one was another than before."""

    def __init__(self, aggregated: Aggregated, clock: Clock) -> None:
        self._aggregated = aggregated
        self._clock = clock
        self._documents: dict[_Key, tuple[float, Json]] = {}
        self.changed = 0

    async def refresh(self) -> None:
        """Fetch what is missing or old."""
        wanted = {(each.group, each.version, each.place): each for each in self._aggregated if each.available}
        gone = [key for key in self._documents if key not in wanted]
        for key in gone:
            del self._documents[key]
        self.changed += bool(gone)
        now = self._clock.monotonic()
        old = [key for key in wanted if key not in self._documents or now - self._documents[key][0] > _KEPT]
        await asyncio.gather(*(self._fetch(key, wanted[key], now) for key in old))

    async def _fetch(self, key: _Key, remote: Remote, now: float) -> None:
        former = self._documents.get(key, (0.0, {}))[1]
        try:
            backend = await self._aggregated.backend(remote)
            found = await fetch_json(backend, "/openapi/v2", identity.headers(AGGREGATOR), _SECONDS)
            document = merge.part(found, f"/apis/{remote.group}/{remote.version}")
            # What cannot be said in protobuf cannot be shown to kubectl.
            gnostic.document({"swagger": "2.0", "info": {"title": "", "version": ""}, **document})
        except (ApiError, CallFailed, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            log.debug("no OpenAPI v2 document", apiservice=remote.name, error=str(error))
            document = former
        self._documents[key] = now, document
        self.changed += document != former

    def documents(self) -> list[Json]:
        """What is known."""
        return [document for _, document in self._documents.values() if document]
