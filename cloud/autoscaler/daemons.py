"""What a new node will run whatever is scheduled there: the pods of the DaemonSets that want it. Their room is not to be had for others."""

from __future__ import annotations

from collections.abc import Iterable

from kubeling.api import taints
from kubeling.api.affinity import pod_matches_node
from kubeling.api.meta import annotations_of, controller_of, is_deleting, labels_of, name_of, namespace_of, spec_of, uid_of
from kubeling.api.pods import is_mirror
from kubeling.cloud.provider import Obj

#: What every pod of a DaemonSet tolerates.
_TOLERATED = (
    (taints.NOT_READY, taints.NO_EXECUTE),
    (taints.UNREACHABLE, taints.NO_EXECUTE),
    (taints.DISK_PRESSURE, taints.NO_SCHEDULE),
    (taints.MEMORY_PRESSURE, taints.NO_SCHEDULE),
    (taints.PID_PRESSURE, taints.NO_SCHEDULE),
    (taints.UNSCHEDULABLE, taints.NO_SCHEDULE),
    (taints.NETWORK_UNAVAILABLE, taints.NO_SCHEDULE),
)
#: Says of a pod whether it belongs to its node as those of DaemonSets do.
DAEMON_ANNOTATION = "cluster-autoscaler.kubernetes.io/daemonset-pod"


def is_daemon(pod: Obj) -> bool:
    """Whether it belongs to its node: a pod of a DaemonSet, or one that says that it is like those."""
    if (annotations_of(pod).get(DAEMON_ANNOTATION) or "") == "true":
        return True
    owner = controller_of(pod)
    return owner is not None and owner.get("kind") == "DaemonSet"


def stays(pod: Obj) -> bool:
    """It needs no place elsewhere when its node goes: mirrors of static pods too."""
    return is_mirror(pod) or is_daemon(pod)


def daemon_pods(node: Obj, daemon_sets: Iterable[Obj]) -> list[Obj]:
    """The pods that `node` will have of `daemon_sets`."""
    found = []
    for each in daemon_sets:
        template = spec_of(each).get("template") or {}
        pod: Obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name_of(each),
                "namespace": namespace_of(each),
                "uid": f"daemon-{uid_of(each)}",
                "labels": labels_of(template),
            },
            "spec": template.get("spec") or {},
        }
        if not is_deleting(each) and _wants(pod, node):
            found.append(pod)
    return found


def _wants(pod: Obj, node: Obj) -> bool:
    tolerations = [
        *(spec_of(pod).get("tolerations") or ()),
        *({"key": key, "operator": "Exists", "effect": effect} for key, effect in _TOLERATED),
    ]
    return pod_matches_node(pod, node) and taints.untolerated(spec_of(node).get("taints"), tolerations) is None
