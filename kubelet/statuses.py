"""Writing pod statuses: in order for each pod, only what has changed, and again until it is written.

Each pod has one writer at a time. What is set while it waits for the apiserver replaces what it has not sent yet, so a long absence ends with one
write. A patch names the pod's uid, so it can never hit a namesake, and says nothing of conditions that belong to others. The status of a static pod
is written to its mirror, for as long as there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kubeling.api.conditions import find_condition
from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, copy_json, metadata_of, namespace_of, resource_version_of, status_of, uid_of
from kubeling.api.resources import PODS
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.backoff import Backoff
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.tasks import run_until
from kubeling.kubelet.manifests import is_static
from kubeling.kubelet.podstatus import OWNED_CONDITIONS, RESIZE_CONDITIONS

log = get_logger("kubelet.status")

_OWNED = (
    "phase",
    "reason",
    "message",
    "startTime",
    "qosClass",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
)
_MERGED_BY_IP = ("podIPs", "hostIPs")


def status_patch(before: dict[str, Any], wanted: dict[str, Any], uid: str) -> dict[str, Any] | None:
    """The strategic merge patch from one status to the other; None where they are the same to us."""
    changes: dict[str, Any] = {}
    for key in _OWNED:
        new, old = wanted.get(key), before.get(key)
        if new == old or (not new and not old):
            continue
        if key in _MERGED_BY_IP and new and old:
            new = [{"$patch": "replace"}, *new]
        changes[key] = copy_json(new) if new is not None else None
    conditions = [
        dict(each) for each in wanted.get("conditions") or () if find_condition(before.get("conditions"), each["type"]) != each
    ]
    if conditions:
        # Fields that a condition no longer has must be taken away by name.
        for each in conditions:
            old_condition = find_condition(before.get("conditions"), each["type"]) or {}
            for key in ("reason", "message"):
                if key in old_condition and key not in each:
                    each[key] = None
    gone = [each for each in RESIZE_CONDITIONS if find_condition(before.get("conditions"), each)]
    conditions += [{"$patch": "delete", "type": each} for each in gone if not find_condition(wanted.get("conditions"), each)]
    if conditions:
        changes["conditions"] = conditions
    return {"metadata": {"uid": uid}, "status": changes} if changes else None


def _owned(status: dict[str, Any]) -> dict[str, Any]:
    kept = {key: status[key] for key in _OWNED if status.get(key)}
    kept["conditions"] = [each for kind in OWNED_CONDITIONS if (each := find_condition(status.get("conditions"), kind))]
    return kept


@dataclass(slots=True)
class _Channel:
    pod: Object
    #: What the API has, as far as is known, and the version of that.
    known: dict[str, Any]
    version: int
    wanted: dict[str, Any] | None = None
    written: bool = True
    delete: bool = False
    gone: bool = False
    task: asyncio.Task[None] | None = None
    lazy: float = 0.0
    #: Whether `pod` is in the API: a static pod is not, but its mirror is.
    bound: bool = True
    #: The uid of the static pod, where it is one.
    static: str = ""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)


class StatusManager:
    """`gone` is called with a uid when the API holds that pod (or its mirror) no more."""

    def __init__(self, client: Client, clock: Clock, gone: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._gone = gone
        self._channels: dict[str, _Channel] = {}

    def get(self, uid: str) -> dict[str, Any] | None:
        """The status that was set last."""
        found = self._channels.get(uid)
        return found.wanted if found is not None else None

    def set(self, pod: Object, status: dict[str, Any], *, lazy: float = 0.0) -> None:
        """Have `status` written. `lazy` seconds may pass first, in which a better one may replace it."""
        channel = self._channel(pod)
        if status == channel.wanted:
            return
        channel.wanted = status
        channel.written = False
        channel.lazy = lazy
        if not lazy:
            channel.hurry.set()
        self._begin(channel)

    def observe(self, pod: Object) -> None:
        """The API shows this pod. Where somebody has overwritten what is ours, it is written again."""
        channel = self._channel(pod)
        version = _version(pod)
        if version < channel.version:
            return
        changed = channel.written and channel.wanted is not None and _owned(status_of(pod)) != _owned(channel.known)
        channel.pod, channel.known, channel.version = pod, copy_json(status_of(pod)), version
        if changed:
            channel.written = False
            self._begin(channel)

    def reflect(self, pod: Object, mirror: Object | None) -> None:
        """The mirror of a static pod, as the API shows it; None where there is none any more."""
        channel = self._channel(pod)
        if mirror is None:
            channel.bound = False
            return
        if channel.bound and uid_of(channel.pod) == uid_of(mirror) and _version(mirror) < channel.version:
            return
        channel.pod, channel.known, channel.version, channel.bound = mirror, copy_json(status_of(mirror)), _version(mirror), True
        if channel.wanted is not None and _owned(channel.known) != _owned(channel.wanted):
            channel.written = False
            self._begin(channel)

    def finish(self, pod: Object) -> None:
        """Nothing of the pod is left here: delete it from the API, after its last status."""
        channel = self._channel(pod)
        channel.delete = True
        channel.hurry.set()
        self._begin(channel)

    def forget(self, uid: str) -> None:
        """The pod is gone from the API."""
        channel = self._channels.pop(uid, None)
        if channel is not None and channel.task is not None:
            channel.gone = True
            channel.hurry.set()

    async def settled(self) -> None:
        """Return when everything that was set so far has been written."""
        tasks = [each.task for each in self._channels.values() if each.task is not None and not each.task.done()]
        for channel in self._channels.values():
            channel.hurry.set()
        await asyncio.gather(*(asyncio.shield(each) for each in tasks), return_exceptions=True)

    async def close(self) -> None:
        """Stop writing."""
        tasks = [each.task for each in self._channels.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _channel(self, pod: Object) -> _Channel:
        uid = uid_of(pod)
        found = self._channels.get(uid)
        if found is None:
            static = uid if is_static(pod) else ""
            found = self._channels[uid] = _Channel(pod, copy_json(status_of(pod)), _version(pod), bound=not static, static=static)
        return found

    def _begin(self, channel: _Channel) -> None:
        if channel.bound and (channel.task is None or channel.task.done()):
            channel.task = asyncio.get_running_loop().create_task(self._write(channel))

    async def _write(self, channel: _Channel) -> None:
        backoff = Backoff(base=0.1, limit=5.0)
        while channel.bound and not channel.gone and (not channel.written or channel.delete):
            if channel.lazy and not channel.hurry.is_set():
                await run_until(channel.hurry, self._clock.sleep(channel.lazy))
            channel.hurry.clear()
            channel.lazy = 0.0
            try:
                if not channel.written:
                    await self._send(channel)
                elif channel.delete:
                    await self._delete(channel)
                    return
                backoff.reset()
                continue
            except ConnectionFailed as error:
                log.debug("the apiserver is away, a status waits", pod=metadata_of(channel.pod)["name"], error=str(error))
            except ApiError as error:
                log.warning("a status was refused", pod=metadata_of(channel.pod)["name"], error=str(error))
            except Exception:
                log.exception("a status could not be written", pod=metadata_of(channel.pod)["name"])
            await self._clock.sleep(backoff.next())

    async def _send(self, channel: _Channel) -> None:
        wanted, pod = channel.wanted, channel.pod
        assert wanted is not None
        body = status_patch(channel.known, wanted, uid_of(pod))
        if body is None:
            channel.written = channel.wanted is wanted
            return
        try:
            answer = await self._client.patch(
                PODS, metadata_of(pod)["name"], body, namespace_of(pod), patch_type="strategic", subresource="status"
            )
        except ApiError as error:
            if error.code in (404, 409) or (error.code == 422 and "uid" in error.message):
                # 404: it is gone. 409: another pod has its name now, or somebody else wrote: the watch will tell.
                if error.code == 409 and "uid" not in error.message.lower():
                    raise
                self._vanished(channel)
                return
            raise
        same = uid_of(channel.pod) == uid_of(pod)  # A mirror may have been made anew meanwhile.
        if same:
            channel.known, channel.version = copy_json(status_of(answer)), _version(answer)
        if channel.wanted is wanted and same:
            channel.written = True

    async def _delete(self, channel: _Channel) -> None:
        pod = channel.pod
        try:
            await self._client.delete(PODS, metadata_of(pod)["name"], namespace_of(pod), grace_period_seconds=0, uid=uid_of(pod))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        channel.delete = False

    def _vanished(self, channel: _Channel) -> None:
        if channel.static:
            channel.bound = False
            self._gone(channel.static)
            return
        channel.gone = True
        self._channels.pop(uid_of(channel.pod), None)
        self._gone(uid_of(channel.pod))


def _version(pod: Object) -> int:
    try:
        return int(resource_version_of(pod) or 0)
    except ValueError:
        return 0
