"""How controllers make and delete the pods of their owners: expected before the request, many at once, and told as events.

Where a write fails, its outcome may be unknown; what was expected of it is dropped all the same, since a pod too many is deleted again, but a pod
too few would be missed for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeling.api.errors import ApiError, is_namespace_terminating, is_not_found
from kubeling.api.meta import key_of, name_of, namespace_of, uid_of
from kubeling.api.resources import PODS
from kubeling.client.batch import parallel, slow_start
from kubeling.client.events import EventRecorder
from kubeling.client.expectations import Expectations
from kubeling.client.rest import Client
from kubeling.controllers.context import Obj


class PodControl:
    """One per controller. `expected` has to see what the informer of pods sees; `key` names the owner there."""

    def __init__(self, client: Client, events: EventRecorder, expected: Expectations) -> None:
        self._client = client
        self._events = events
        self._expected = expected

    async def create(self, key: str, owner: Obj, pods: Sequence[Obj]) -> None:
        """Make pods, whose names are chosen already. Raises the first failure; a namespace on its way out is none, nor are more tried there."""

        async def create(pod: Obj) -> None:
            child = key_of(pod)
            self._expected.creating(key, child)
            try:
                await self._client.create(PODS, pod, namespace_of(pod))
            except Exception as error:
                self._expected.settled(child)
                if isinstance(error, ApiError) and not is_namespace_terminating(error):
                    self._events.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
                raise
            self._events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name_of(pod)}")

        _, error = await slow_start(pods, create)
        if error is not None and not is_namespace_terminating(error):
            raise error

    async def delete(self, key: str, owner: Obj, pods: Sequence[Obj]) -> None:
        """Delete these very pods. Raises the first failure; one that is gone already is none."""

        async def delete(pod: Obj) -> None:
            self._expected.deleting(key, uid_of(pod))
            try:
                await self._client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
            except Exception as error:
                self._expected.settled(uid_of(pod))
                if is_not_found(error):
                    return
                if isinstance(error, ApiError):
                    self._events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
                raise
            self._events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

        await parallel(pods, delete)
