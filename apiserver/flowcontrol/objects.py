"""The FlowSchemas and priority levels that every cluster has, as data: upstream's mandatory and suggested ones of 1.33.

A schema is a line of `precedence, level, distinguisher` and rules; a rule is `subjects | verbs | groups | resources | namespaces` or `subjects | verbs | /paths`, words
separated by spaces; a namespace of `-` stands for the cluster scope.
"""

from __future__ import annotations

from typing import Any

from kubeling.api.meta import Object

API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
#: They are kept as they are whatever anybody does.
MANDATORY = frozenset({"exempt", "catch-all"})

_EVERYBODY = "group:system:unauthenticated group:system:authenticated"
_MANAGER, _SCHEDULER = "user:system:kube-controller-manager", "user:system:kube-scheduler"
_SYSTEM_ACCOUNTS = "account:kube-system/*"
_ALL = ("{who} | * | * | * | * -", "{who} | * | *")

_SCHEMAS: dict[str, tuple[int, str, str, str, tuple[str, ...]]] = {
    "exempt": (1, "exempt", "", "group:system:masters", _ALL),
    "probes": (2, "exempt", "", _EVERYBODY, ("{who} | get | /healthz /readyz /livez",)),
    "system-leader-election": (
        100,
        "leader-election",
        "ByUser",
        f"{_MANAGER} {_SCHEDULER} {_SYSTEM_ACCOUNTS}",
        ("{who} | get create update | coordination.k8s.io | leases | kube-system",),
    ),
    "endpoint-controller": (
        150,
        "workload-high",
        "ByUser",
        f"{_MANAGER} account:kube-system/endpoint-controller account:kube-system/endpointslicemirroring-controller",
        ("{who} | get create update | core | endpoints | *",),
    ),
    "workload-leader-election": (
        200,
        "leader-election",
        "ByUser",
        _SYSTEM_ACCOUNTS,
        ("{who} | get create update | coordination.k8s.io | leases | *",),
    ),
    "system-node-high": (
        400,
        "node-high",
        "ByUser",
        "group:system:nodes",
        ("{who} | * | core | nodes nodes/status | * -", "{who} | * | coordination.k8s.io | leases | *"),
    ),
    "system-nodes": (500, "system", "ByUser", "group:system:nodes", _ALL),
    "kube-controller-manager": (800, "workload-high", "ByNamespace", _MANAGER, _ALL),
    "kube-scheduler": (800, "workload-high", "ByNamespace", _SCHEDULER, _ALL),
    "kube-system-service-accounts": (900, "workload-high", "ByNamespace", _SYSTEM_ACCOUNTS, _ALL),
    "service-accounts": (9000, "workload-low", "ByUser", "group:system:serviceaccounts", _ALL),
    "global-default": (9900, "global-default", "ByUser", _EVERYBODY, _ALL),
    "catch-all": (10000, "catch-all", "ByUser", _EVERYBODY, _ALL),
}
#: Level → shares, percent that it lends, and of its queues their number, the hand and the length; without queues what has no seat is refused.
_LEVELS: dict[str, tuple[int, int, tuple[int, int, int] | None]] = {
    "system": (30, 33, (64, 6, 50)),
    "node-high": (40, 25, (64, 6, 50)),
    "leader-election": (10, 0, (16, 4, 50)),
    "workload-high": (40, 50, (128, 6, 50)),
    "workload-low": (100, 90, (128, 6, 50)),
    "global-default": (20, 50, (128, 6, 50)),
    "catch-all": (5, 0, None),
}


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "account":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}
    return {"kind": kind.capitalize(), kind: {"name": name}}


def _rule(line: str, who: str) -> tuple[list[Object], str, Object]:
    subjects, verbs, *rest = (each.split() for each in line.format(who=who).split("|"))
    if len(rest) == 1:
        return [_subject(each) for each in subjects], "nonResourceRules", {"verbs": verbs, "nonResourceURLs": rest[0]}
    groups, resources, namespaces = rest
    rule: Object = {"verbs": verbs, "apiGroups": ["" if each == "core" else each for each in groups], "resources": resources}
    if "-" in namespaces:
        rule["clusterScope"] = True
    rule["namespaces"] = [each for each in namespaces if each != "-"]
    return [_subject(each) for each in subjects], "resourceRules", rule


def flow_schemas() -> list[Object]:
    """All FlowSchemas."""
    return [_schema(name) for name in _SCHEMAS]


def _schema(name: str) -> Object:
    precedence, level, distinguisher, who, lines = _SCHEMAS[name]
    rules: list[Object] = []
    for line in lines:
        subjects, kind, rule = _rule(line, who)
        if rules and rules[-1]["subjects"] == subjects:
            rules[-1].setdefault(kind, []).append(rule)
        else:
            rules.append({"subjects": subjects, kind: [rule]})
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return _object("FlowSchema", name, spec)


def priority_levels() -> list[Object]:
    """All PriorityLevelConfigurations."""
    exempt: Object = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    found = [_object("PriorityLevelConfiguration", "exempt", exempt)]
    for name, (shares, lends, queuing) in _LEVELS.items():
        response: dict[str, Any] = {"type": "Reject"}
        if queuing is not None:
            sizes = dict(zip(("queues", "handSize", "queueLengthLimit"), queuing, strict=True))
            response = {"type": "Queue", "queuing": sizes}
        limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lends}
        found.append(_object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited}))
    return found


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
