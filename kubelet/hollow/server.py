"""The kubelet's API for all hollow nodes, on one port: logs that say what a hollow pod is, the use that it claims, and a clear word about what it cannot do."""

from __future__ import annotations

import ssl

from kubeling.api.errors import ApiError
from kubeling.api.meta import Object, annotations_of, name_of, namespace_of
from kubeling.api.pods import all_containers, container_status
from kubeling.api.resources import SUBJECT_ACCESS_REVIEWS
from kubeling.client.rest import Client, ConnectionFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.kubelet import httpd
from kubeling.kubelet.access import Access
from kubeling.kubelet.hollow.pods import HollowPods
from kubeling.kubelet.hollow.usage import Meter, page
from kubeling.kubelet.httpd import Request, Response

log = get_logger("hollow.server")

#: What `kubectl logs` of the pod shows.
LOGS = "hollow.kubeling.dev/logs"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STREAMS = ("exec", "attach", "portForward", "run")


class HollowServer:
    """Answers for the pods of `pods`."""

    def __init__(self, client: Client, pods: HollowPods, clock: Clock) -> None:
        self._client = client
        self._pods = pods
        # The name of no node: what is asked is whether somebody may do it with all of them.
        self._access = Access("", self._ask, clock)
        self._clock = clock
        self._meter = Meter()
        self._server = httpd.Server(self.handle)

    async def run(self, address: str, port: int, context: ssl.SSLContext) -> None:
        """Listen until cancelled."""
        await self._server.run(address, port, context)

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        parts = [each for each in request.path.split("/") if each]
        if parts and parts[0] == "healthz":
            return Response(b"ok")
        if request.identity is None:
            return Response(b"Unauthorized\n", 401)
        why = await self._access.refusal(request.identity, request.method, request.path)
        if why is not None:
            return Response(f"{why}\n".encode(), 403)
        match parts:
            case ["containerLogs", namespace, name, container]:
                return self._logs(namespace, name, container, previous=request.first("previous") == "true")
            case ["metrics", "resource"]:
                pods = self._pods.on_node(request.first("node"))
                return Response(page(pods, self._meter, self._clock.now()).encode(), content_type=METRICS_TYPE)
            case [verb, namespace, name, *_] if verb in _STREAMS:
                return _plain(
                    400, f'pod "{name}_{namespace}" is on a hollow node: nothing runs in it, so there is nothing to connect to'
                )
        return _plain(404, "404 page not found: a hollow node has only /containerLogs, /metrics/resource and /healthz")

    async def _ask(self, spec: Object) -> bool:
        try:
            review = await self._client.create(SUBJECT_ACCESS_REVIEWS, {"spec": spec})
        except (ApiError, ConnectionFailed) as error:
            log.warning("the apiserver could not be asked who may come in", error=error)
            return False
        return bool((review.get("status") or {}).get("allowed"))

    def _logs(self, namespace: str, name: str, container: str, *, previous: bool) -> Response:
        pod = self._pods.find(namespace, name)
        if pod is None:
            return _plain(404, f'pod "{name}_{namespace}" does not exist')
        if container not in [each["name"] for _, _, each in all_containers(pod["spec"])]:
            return _plain(404, f'container "{container}" not found in pod "{name}_{namespace}"')
        status = container_status(pod, container) or {}
        state, last = status.get("state") or {}, status.get("lastState") or {}
        if previous and not last.get("terminated"):
            return _plain(400, f'previous terminated container "{container}" in pod "{name}" not found')
        if not (state.get("running") or state.get("terminated") or last.get("terminated")):
            reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
            return _plain(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        return Response(text_of(pod, container).encode())


def text_of(pod: Object, container: str) -> str:
    """What a container has written, had it run."""
    said = annotations_of(pod).get(LOGS)
    if said is not None:
        return said if said.endswith("\n") else f"{said}\n"
    return f"container {container} of pod {namespace_of(pod)}/{name_of(pod)} is on a hollow node: it does not run, and writes nothing.\n"


def _plain(status: int, words: str) -> Response:
    return Response(f"{words}\n".encode(), status)
