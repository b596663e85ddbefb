"""What a cluster leaves in a runtime that is not its own: with ``--runtime=unix:///…`` the pods belong to a daemon that lives on after `down`.

The pods of this cluster are known by their UIDs, for each of which the kubelets keep a directory. Everything else in that runtime is somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

CALL_SECONDS = 30.0


def pod_uids(root: Path) -> set[str]:
    """The UIDs of all pods that the kubelets of the cluster in `root` have directories of."""
    return {path.name for path in root.glob("nodes/*/kubelet/pods/*")}


def remove_pods(endpoint: str, uids: Collection[str]) -> int:
    """Stop and remove the sandboxes of the pods `uids` behind the CRI `endpoint`. Returns how many there were; raises OSError where it does not answer."""
    import grpc

    from kubeling.proto import cri_pb2, cri_pb2_grpc

    removed = 0
    try:
        with grpc.insecure_channel(endpoint) as channel:
            runtime = cri_pb2_grpc.RuntimeServiceStub(channel)  # type: ignore[no-untyped-call]
            for sandbox in runtime.ListPodSandbox(cri_pb2.ListPodSandboxRequest(), timeout=CALL_SECONDS).items:
                if sandbox.metadata.uid in uids:
                    runtime.StopPodSandbox(cri_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=CALL_SECONDS)
                    runtime.RemovePodSandbox(cri_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=CALL_SECONDS)
                    removed += 1
    except grpc.RpcError as error:
        raise OSError(f"{endpoint}: {error.details()}") from error
    return removed
