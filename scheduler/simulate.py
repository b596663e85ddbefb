"""What would fit if the cluster were another: the question of whoever adds and removes nodes, answered with the very plugins that will decide then.

`POST /simulate` on the status port takes one supposed cluster and pods to place in it, in order, each counting for those after it::

    {"remove": [NODE…],                          nodes as if they were gone, with their pods
     "add": [{"node": Node, "pods": [Pod…]}…],   nodes as if they were there already
     "grow": {"node": Node, "pods": [Pod…], "max": N},  and as many more of this one as turn out to be needed
     "pods": [Pod…]}

and says for each pod where it would go, or why it goes nowhere::

    {"placements": [{"node": NAME, "kind": "there"|"added"|"grown"} | {"node": "", "reasons": […]}…], "grown": N}

Nothing is changed by it. The first node that fits is taken, those that are there already first, so that what has to be added is little. Extenders are not
asked; pods of a scheduler that this one does not play are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from kubeling.api.meta import controller_of
from kubeling.scheduler.cache import Cache
from kubeling.scheduler.framework import Framework
from kubeling.scheduler.nodeinfo import NodeInfo, Obj, PodInfo
from kubeling.scheduler.types import Cycle

MAX_PODS = 5000
MAX_NODES = 5000
#: Volumes that are the same wherever a pod runs.
_PLAIN_VOLUMES = frozenset(("projected", "configMap", "secret", "emptyDir", "downwardAPI", "hostPath"))
#: Other work has its turn after so many pods.
_SLICE = 10


class BadQuestion(ValueError):
    """The question cannot be meant; the text says why."""


class World:
    """The supposed cluster. Nodes are copied before they change: those of the real one are never touched."""

    def __init__(self, cache: Cache, frameworks: Mapping[str, Framework], question: Obj) -> None:
        self._cache, self._frameworks, self._nominated = cache, frameworks, cache.nominated
        gone = frozenset(question.get("remove") or ())
        self._nodes = {name: info for name, info in cache.nodes.items() if name not in gone}
        self._order = list(self._nodes)
        self._ours: set[str] = set()
        #: How far the nodes have been looked through for pods of a shape, and what a new node says to those that do not fit even there.
        self._looked: dict[bytes, int] = {}
        self._too_big: dict[bytes, tuple[str, ...]] = {}
        self.kinds: dict[str, str] = {}
        for each in question.get("add") or ():
            self._add(each["node"], each.get("pods") or (), "added")
        self._grow: Obj = question.get("grow") or {}
        self._most = 0
        self.grown = 0
        if self._grow:
            NodeInfo(_named(self._grow["node"], "checked"))
            self._most = int(self._grow["max"])

    def _add(self, node: Obj, pods: Iterable[Obj], kind: str) -> str:
        info = NodeInfo(node)
        for pod in pods:
            info.add(PodInfo(pod))
        if info.name not in self._nodes:
            self._order.append(info.name)
        self._nodes[info.name] = info
        self._ours.add(info.name)
        self.kinds[info.name] = kind
        return info.name

    def place(self, info: PodInfo, *, waits: bool = True) -> Obj:
        """Put one pod somewhere. One that `waits`, for all that the asker knows, may have been given a node meanwhile."""
        if waits and (node := self._cache.place_of(info.uid)):
            return {"node": node, "kind": "there"}
        name = str(info.spec.get("schedulerName") or "default-scheduler")
        framework = self._frameworks.get(name)
        if framework is None:
            return _refusal((f"it is the scheduler {name}'s",))
        shape = _shape(info)
        cycle = Cycle(info, self._nodes, None, self._nominated)
        candidates, outright = framework.prepare(cycle)
        if candidates is None and outright is not None:
            return _refusal(outright.reasons)
        rejections: set[str] = set()
        at = self._looked.get(shape, 0) if shape else 0
        while at < len(self._order):
            node = self._order[at]
            rejection = (
                outright if candidates is not None and node not in candidates else framework.check(cycle, self._nodes[node])
            )
            if rejection is None:
                break
            rejections.update(rejection.reasons)
            at += 1
        if shape:
            self._looked[shape] = at
        if at < len(self._order):
            return self._put(info, self._order[at])
        if self.grown >= self._most:
            return _refusal(sorted(rejections))
        return self._expand(framework, info, shape)

    def _put(self, info: PodInfo, node: str) -> Obj:
        found = self._nodes[node]
        if node not in self._ours:
            # What follows must not be counted in the real cluster.
            found = self._nodes[node] = found.copy()
            self._ours.add(node)
        found.add(info)
        return {"node": node, "kind": self.kinds.get(node, "there")}

    def _expand(self, framework: Framework, info: PodInfo, shape: bytes) -> Obj:
        """Try it on one more node of the kind that may be added; the node stays only where the pod does."""
        if shape in self._too_big:
            return _refusal(self._too_big[shape])
        name = f"{self._grow['node']['metadata']['name']}-{self.grown}"
        self._add(_named(self._grow["node"], name), _renamed(self._grow.get("pods") or (), name), "grown")
        cycle = Cycle(info, self._nodes, None, self._nominated)
        candidates, rejection = framework.prepare(cycle)
        if candidates is not None and name in candidates:
            rejection = None
        rejection = rejection or framework.check(cycle, self._nodes[name])
        if rejection is None:
            self.grown += 1
            return self._put(info, name)
        del self._nodes[name]
        self._order.pop()
        if shape:
            self._too_big[shape] = rejection.reasons
        return _refusal(rejection.reasons)


def _shape(info: PodInfo) -> bytes:
    """Equal for pods that the filters cannot tell apart, and for which a node that has been refused stays refused as more pods come; empty where that is not so.

    The pods of one controller are alike but for what is mounted by default. What comes may help a pod that wants others near it, or evenly spread.
    """
    owner, spec = controller_of(info.pod), info.spec
    if owner is None or info.affinity or spec.get("topologySpreadConstraints") or spec.get("resourceClaims"):
        return b""
    if any(not _PLAIN_VOLUMES & each.keys() for each in info.volumes):
        return b""
    parts = [spec.get(key) for key in ("nodeSelector", "affinity", "tolerations", "schedulerName", "priority")]
    return orjson.dumps([owner.get("uid"), info.group, info.requests_key, info.host_ports, parts], option=orjson.OPT_SORT_KEYS)


def _refusal(reasons: Iterable[str]) -> Obj:
    return {"node": "", "reasons": list(reasons)}


def _named(node: Obj, name: str) -> Obj:
    meta = node["metadata"]
    return {**node, "metadata": {**meta, "name": name, "labels": {**(meta.get("labels") or {}), "kubernetes.io/hostname": name}}}


def _renamed(pods: Iterable[Obj], node: str) -> list[Obj]:
    """Pods that are there on every node of the kind, each with an identity of its own."""
    return [
        {**each, "metadata": {**each["metadata"], "name": f"{each['metadata']['name']}-{node}", "uid": f"{node}/{number}"}}
        for number, each in enumerate(pods)
    ]


def _unbound(pod: Obj) -> PodInfo:
    """As if it were on no node yet."""
    return PodInfo({**pod, "spec": {key: value for key, value in pod["spec"].items() if key != "nodeName"}})


async def simulate(cache: Cache, frameworks: Mapping[str, Framework], question: Any) -> Obj:
    """The answer. BadQuestion where the question makes no sense."""
    if not isinstance(question, dict):
        raise BadQuestion("a JSON object is expected")
    wanted = question.get("pods") or []
    if len(wanted) > MAX_PODS or len(question.get("add") or ()) > MAX_NODES:
        raise BadQuestion(f"at most {MAX_PODS} pods and {MAX_NODES} added nodes in one question")
    try:
        world = World(cache, frameworks, question)
        pods = [(_unbound(each), not each["spec"].get("nodeName")) for each in wanted]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadQuestion(f"an object of the question is not whole: {error!r}") from error
    placements: list[Obj] = []
    for number, (pod, waits) in enumerate(pods, 1):
        placements.append(world.place(pod, waits=waits))
        if not number % _SLICE:
            await asyncio.sleep(0)
    return {"placements": placements, "grown": world.grown}
