"""Notes on the Secret of a legacy token on which day it was last shown, once a day, so that tokens nobody uses can be told from others (KEP-2799)."""

from __future__ import annotations

import asyncio

from kubeling.api.errors import ApiError
from kubeling.api.legacytokens import INVALID_SINCE, LAST_USED
from kubeling.api.meta import Object, labels_of
from kubeling.apiserver.registry.store import Change, Store
from kubeling.apiserver.storage.errors import StoreError
from kubeling.daemon.log import get_logger

log = get_logger("authentication")

#: Who shows a token waits no longer than this for the note.
_SECONDS = 2.0


def is_invalid(secret: Object) -> bool:
    """Whether the token is refused. Who takes the label off allows it again."""
    return bool(labels_of(secret).get(INVALID_SINCE))


async def note_use(store: Store, namespace: str, name: str, day: str) -> None:
    """Write down that the token was used today. Where that does not work the token is good all the same."""

    async def mutate(obj: Object) -> Change:
        metadata = obj["metadata"]
        return Change({**obj, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), LAST_USED: day}}})

    try:
        async with asyncio.timeout(_SECONDS):
            await store.change(namespace, name, mutate)
    except (ApiError, StoreError, TimeoutError) as error:
        log.warning("the use of a token could not be noted", secret=f"{namespace}/{name}", error=str(error))
