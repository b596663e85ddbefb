"""Getting images onto the node: policies, pull secrets, back-off, and one pull at a time for one image however many pods want it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kubeling.api.meta import Object, uid_of
from kubeling.api.times import format_duration
from kubeling.kubelet import imagename
from kubeling.kubelet.backoff import KeyedBackoff
from kubeling.kubelet.cri import Runtime, RuntimeFailure

if TYPE_CHECKING:
    from kubeling.proto import cri_pb2

#: Pulls that go on at the same time.
PARALLEL = 3


#: With what a runtime's refusal may begin to say which it is: then that is the reason, as upstream has it.
_KNOWN = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}


#: For this long the reason of a failed pull is shown before that of the back-off.
_SHOWN_SECONDS = 1.0


class ImageProblem(Exception):
    """Why a container has no image: `reason` is ErrImagePull, RegistryUnavailable, SignatureValidationFailed, ImagePullBackOff, ErrImageNeverPull,
    InvalidImageName or ImageInspectError."""

    def __init__(self, reason: str, message: str, retry_in: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_in = retry_in


class Tell(Protocol):
    """Records an event about the container: type, reason, message."""

    def __call__(self, kind: str, reason: str, message: str) -> None: ...


class ImageManager:
    """See the module's docstring."""

    def __init__(self, runtime: Runtime, wall: Callable[[], float] = time.time) -> None:
        self._runtime = runtime
        self._wall = wall
        self._backoff = KeyedBackoff(wall)
        self._last_error: dict[str, tuple[str, float]] = {}
        self._pulls: dict[tuple[str, imagename.Credentials | None], asyncio.Task[str]] = {}
        self._slots = asyncio.Semaphore(PARALLEL)

    async def ensure(
        self,
        pod: Object,
        container: dict[str, Any],
        secrets: Sequence[Object],
        sandbox: cri_pb2.PodSandboxConfig | None,
        tell: Tell,
    ) -> tuple[str, cri_pb2.Image | None]:
        """Have the container's image here; its name for the runtime and what is known of it. ImageProblem where that fails."""
        given = container.get("image") or ""
        try:
            image = imagename.with_default_tag(given)
            policy = imagename.pull_policy(container)
        except imagename.InvalidName as error:
            message = f'Failed to apply default image tag "{given}": {error}'
            tell("Warning", "InspectFailed", message)
            raise ImageProblem("InvalidImageName", message) from error
        if policy != "Always":
            try:
                found = await self._runtime.image(image)
            except RuntimeFailure as error:
                message = f'Failed to inspect image "{given}": {error}'
                tell("Warning", "InspectFailed", message)
                raise ImageProblem("ImageInspectError", message, 5.0) from error
            if found is not None:
                tell("Normal", "Pulled", f'Container image "{given}" already present on machine')
                return found.id, found
            if policy == "Never":
                message = f'Container image "{given}" is not present with pull policy of Never'
                tell("Warning", "ErrImageNeverPull", message)
                raise ImageProblem("ErrImageNeverPull", message)
        reference = await self._pull(pod, given, image, secrets, sandbox, tell)
        found = await self._runtime.image(image)
        return (found.id if found is not None else reference), found

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._backoff.forget(f"{uid}/")
        for key in [each for each in self._last_error if each.startswith(f"{uid}/")]:
            del self._last_error[key]

    async def _pull(
        self,
        pod: Object,
        given: str,
        image: str,
        secrets: Sequence[Object],
        sandbox: cri_pb2.PodSandboxConfig | None,
        tell: Tell,
    ) -> str:
        key = f"{uid_of(pod)}/{image}"
        if key in self._last_error:
            words, failed_at = self._last_error[key]
            left = self._backoff.remaining(key, failed_at)
            if left > 0:
                message = f'Back-off pulling image "{given}"'
                tell("Normal", "BackOff", message)
                raise ImageProblem("ImagePullBackOff", f"{message}: ErrImagePull: {words}", left)
        tell("Normal", "Pulling", f'Pulling image "{given}"')
        began = self._wall()
        try:
            reference = await self._with_credentials(image, secrets, sandbox)
        except RuntimeFailure as error:
            reason, words = _explain(given, error)
            tell("Warning", "Failed", f'Failed to pull image "{given}": {words}')
            failed_at = self._wall()
            self._backoff.next(key, failed_at)
            self._last_error[key] = (words, failed_at)
            # The next look, which is soon, finds it in back-off and says so.
            raise ImageProblem(reason, words, _SHOWN_SECONDS) from error
        self._last_error.pop(key, None)
        from datetime import timedelta

        took = format_duration(timedelta(milliseconds=round((self._wall() - began) * 1000)))
        found = await self._runtime.image(image)
        size = f" Image size: {found.size} bytes." if found is not None else ""
        tell("Normal", "Pulled", f'Successfully pulled image "{given}" in {took} ({took} including waiting).{size}')
        return reference

    async def _with_credentials(self, image: str, secrets: Sequence[Object], sandbox: cri_pb2.PodSandboxConfig | None) -> str:
        tries: list[imagename.Credentials | None] = [*imagename.credentials_for(image, secrets), None]
        if len(tries) > 1:
            tries.pop()  # With credentials at hand, an anonymous pull would only hide why they do not work.
        failure: RuntimeFailure | None = None
        for each in tries:
            try:
                return await self._shared(image, each, sandbox)
            except RuntimeFailure as error:
                failure = error
        assert failure is not None
        raise failure

    async def _shared(
        self, image: str, credentials: imagename.Credentials | None, sandbox: cri_pb2.PodSandboxConfig | None
    ) -> str:
        """Join a pull that is under way. A pod that goes away leaves the pull to the others."""
        key = (image, credentials)
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._one(image, credentials, sandbox))
            self._pulls[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: tuple[str, imagename.Credentials | None], task: asyncio.Task[str]) -> None:
        self._pulls.pop(key, None)
        if not task.cancelled():
            task.exception()  # Whoever waited has seen it; nobody may have.

    async def _one(self, image: str, credentials: imagename.Credentials | None, sandbox: cri_pb2.PodSandboxConfig | None) -> str:
        auth = None
        if credentials is not None:
            auth = self._runtime.pb.AuthConfig(
                username=credentials.username,
                password=credentials.password,
                identity_token=credentials.identity_token,
                server_address=credentials.server,
            )
        async with self._slots:
            return await self._runtime.pull(image, auth, sandbox)


def _explain(image: str, error: RuntimeFailure) -> tuple[str, str]:
    """(reason, message) of a pull that failed."""
    for reason, cause in _KNOWN.items():
        if error.details.startswith(reason):
            return reason, f"image pull failed for {image} because {cause}{error.details.removeprefix(reason)}"
    return "ErrImagePull", str(error)
