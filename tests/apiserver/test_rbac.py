"""RBAC without a server: rules, what bindings give, what reconciliation adds, what a node's pods use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeling.api import rbac as rules
from kubeling.api import references, resources
from kubeling.api.errors import ApiError
from kubeling.apiserver.authn.user import MASTERS, User, authenticated
from kubeling.apiserver.authz import graph as graphs
from kubeling.apiserver.authz import policy
from kubeling.apiserver.authz.authorizer import ALLOWED, Attributes, Decision, RuleList, Union, refusal
from kubeling.apiserver.authz.node import NodeAuthorizer
from kubeling.apiserver.authz.rbac import Rbac
from kubeling.apiserver.authz.reconcile import merged
from kubeling.apiserver.cache.cache import Cache
from kubeling.apiserver.cache.entry import encode, head_of, make_entry
from kubeling.apiserver.cache.watcher import Event

Obj = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"


class Kinds:
    """What an authorizer needs of the registry: a cache of each kind, filled by hand."""

    def __init__(self) -> None:
        self.stores: dict[str, Any] = {}

    def store(self, resource: resources.Resource) -> Any:
        return self.stores.setdefault(resource.plural, Store(resource))


class Store:
    def __init__(self, resource: resources.Resource) -> None:
        self.resource = resource
        head = head_of(resource.group_version, resource.kind)

        def fields(obj: Obj) -> dict[str, str]:
            metadata = obj["metadata"]
            found = {"metadata.name": metadata["name"], "metadata.namespace": metadata.get("namespace", "")}
            found["spec.nodeName"] = (obj.get("spec") or {}).get("nodeName", "")
            return {**found, "status.phase": (obj.get("status") or {}).get("phase", "")}

        none: Any = None
        self.cache = Cache("/registry/x/", resource.group_version, resource.kind, fields, none, Hub(), none)  # type: ignore[arg-type]
        self.cache._loaded = True
        self._head, self._fields, self._revision = head, fields, 0

    def key(self, namespace: str, name: str) -> str:
        return f"/registry/x/{namespace}/{name}"

    def put(self, obj: Obj, *, deleted: bool = False) -> None:
        """A change, as the cache would hand it on."""
        self._revision += 1
        full = {"apiVersion": self.resource.group_version, "kind": self.resource.kind, **obj}
        key = self.key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        entry = make_entry(key, encode(full), self._revision, self._head, self._fields)
        previous = self.cache.get(key)
        self.cache._entries[key] = entry
        kind = "DELETED" if deleted else "MODIFIED" if previous else "ADDED"
        if deleted:
            del self.cache._entries[key]
        self.cache._keys = sorted(self.cache._entries)
        self.cache._fan_out(Event(kind, self._revision, entry, previous, self._head, 0.0))


class Hub:
    revision = 0


def role(name: str, *lines: str, namespace: str = "") -> Obj:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "rules": [policy.parse_rule(each) for each in lines]}


def binding(name: str, role_name: str, *subjects: Obj, namespace: str = "", kind: str = "ClusterRole") -> Obj:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role_name}, "subjects": list(subjects)}


def user(name: str) -> Obj:
    return {"kind": "User", "apiGroup": _RBAC, "name": name}


def group(name: str) -> Obj:
    return {"kind": "Group", "apiGroup": _RBAC, "name": name}


class World:
    """An RBAC authorizer over objects that a test puts there."""

    def __init__(self) -> None:
        self.kinds = Kinds()
        self.rbac = Rbac(self.kinds)  # type: ignore[arg-type]

    async def start(self) -> None:
        for each in self.rbac._followers:
            await each.load()
        self.rbac.policy_is_there()

    def put(self, resource: resources.Resource, obj: Obj, *, deleted: bool = False) -> None:
        self.kinds.store(resource).put(obj, deleted=deleted)

    async def may(
        self, name: str, verb: str, what: str, namespace: str = "", obj: str = "", groups: tuple[str, ...] = ()
    ) -> Decision:
        """`what` is resource, resource/subresource or resource.group, or a path."""
        who = authenticated(name, groups)
        if what.startswith("/"):
            return await self.rbac.authorize(Attributes(who, verb, path=what))
        resource, _, api_group = what.partition(".")
        plural, _, subresource = resource.partition("/")
        return await self.rbac.authorize(Attributes(who, verb, api_group, plural, subresource, namespace, obj))


@pytest.fixture
async def world() -> World:
    made = World()
    await made.start()
    return made


async def test_a_cluster_role_binding_counts_everywhere_and_a_role_binding_in_its_namespace(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("reader", "READ | core | pods"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("all", "reader", user("ann")))
    world.put(resources.ROLE_BINDINGS, binding("some", "reader", group("devs"), namespace="a"))
    assert (await world.may("ann", "list", "pods")).allowed
    assert (await world.may("ann", "get", "pods", "b", "x")).allowed
    assert not (await world.may("ann", "create", "pods", "b")).allowed
    assert not (await world.may("bob", "list", "pods", "a")).allowed
    assert (await world.may("bob", "list", "pods", "a", groups=("devs",))).allowed
    assert not (await world.may("bob", "list", "pods", "b", groups=("devs",))).allowed
    assert not (await world.may("bob", "list", "pods", groups=("devs",))).allowed


async def test_the_reason_names_binding_role_and_subject(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("reader", "READ | core | pods"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("all", "reader", user("ann")))
    world.put(resources.ROLES, role("own", "get | core | secrets", namespace="a"))
    account = {"kind": "ServiceAccount", "name": "robot"}
    world.put(resources.ROLE_BINDINGS, binding("mine", "own", account, namespace="a", kind="Role"))
    assert (
        await world.may("ann", "get", "pods")
    ).reason == 'RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "ann"'
    found = await world.may("system:serviceaccount:a:robot", "get", "secrets", "a", "s")
    assert found.reason == 'RBAC: allowed by RoleBinding "mine/a" of Role "own" to ServiceAccount "robot/a"'


async def test_every_change_counts_at_once(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("r", "get | core | pods"))
    assert not (await world.may("ann", "get", "pods")).allowed
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    assert (await world.may("ann", "get", "pods")).allowed
    world.put(resources.CLUSTER_ROLES, role("r", "list | core | pods"))
    assert not (await world.may("ann", "get", "pods")).allowed
    world.put(resources.CLUSTER_ROLES, role("r", "get | core | pods"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("bob")))
    assert not (await world.may("ann", "get", "pods")).allowed
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("bob")), deleted=True)
    assert not (await world.may("bob", "get", "pods")).allowed
    assert world.rbac._index == {}


async def test_a_role_that_is_missing_is_named_in_the_refusal(world: World) -> None:
    world.put(resources.ROLE_BINDINGS, binding("b", "gone", user("ann"), namespace="a", kind="Role"))
    found = await world.may("ann", "get", "pods", "a", "x")
    assert found == Decision(False, 'RBAC: role.rbac.authorization.k8s.io "gone" not found')
    error = refusal(Attributes(User("ann"), "get", "", "pods", "", "a", "x"), found)
    assert error.message == (
        'pods "x" is forbidden: User "ann" cannot get resource "pods" in API group "" in the namespace "a": '
        'RBAC: role.rbac.authorization.k8s.io "gone" not found'
    )


@pytest.mark.parametrize(
    ("line", "yes", "no"),
    [
        ("get | core | pods | a b", [("get", "pods", "a"), ("get", "pods", "b")], [("get", "pods", "c"), ("get", "pods", "")]),
        (
            "get | core | pods",
            [("get", "pods", "a")],
            [("get", "pods/log", "a"), ("list", "pods", ""), ("get", "pods.apps", "a")],
        ),
        ("get | core | pods/*", [], [("get", "pods/log", "a"), ("get", "pods", "a")]),
        ("update | * | */scale", [("update", "deployments/scale.apps", "a")], [("update", "deployments.apps", "a")]),
        ("* | apps | *", [("fly", "deployments/scale.apps", "a")], [("get", "pods", "a")]),
        ("get | core | */log", [("get", "pods/log", "a")], [("get", "log", "a"), ("get", "pods/logs", "a")]),
        (
            "get | /healthz/* /x",
            [("get", "/healthz/", ""), ("get", "/healthz/a/b", ""), ("get", "/x", "")],
            [("get", "/healthz", ""), ("get", "/x/", ""), ("post", "/x", "")],
        ),
        ("* | *", [("post", "/anything", "")], [("get", "pods", "a")]),
    ],
)
async def test_rules(world: World, line: str, yes: list[tuple[str, str, str]], no: list[tuple[str, str, str]]) -> None:
    world.put(resources.CLUSTER_ROLES, role("r", line))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    for verb, what, name in yes:
        assert (await world.may("ann", verb, what, "", name)).allowed, (verb, what, name)
    for verb, what, name in no:
        assert not (await world.may("ann", verb, what, "", name)).allowed, (verb, what, name)


async def test_named_rules_of_several_roles_add_up(world: World) -> None:
    for name in "ab":
        world.put(resources.CLUSTER_ROLES, role(name, f"get | core | pods | {name}"))
        world.put(resources.CLUSTER_ROLE_BINDINGS, binding(name, name, user("ann")))
    assert (await world.may("ann", "get", "pods", "x", "a")).allowed
    assert (await world.may("ann", "get", "pods", "x", "b")).allowed
    assert not (await world.may("ann", "get", "pods", "x", "c")).allowed


async def test_requests_wait_for_the_policy_but_health_does_not() -> None:
    made = World()
    assert (await made.may("ann", "get", "/readyz")).allowed
    asked = asyncio.ensure_future(made.may("ann", "get", "pods"))
    await asyncio.sleep(0)
    assert not asked.done()
    await made.start()
    made.put(resources.CLUSTER_ROLES, role("r", "get | core | pods"))
    made.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    assert (await asked).allowed


async def test_what_is_not_known_in_time_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeling.apiserver.authz.rbac._PATIENCE", 0.01)
    monkeypatch.setattr("kubeling.apiserver.authz.graph._PATIENCE", 0.01)
    with pytest.raises(ApiError) as caught:
        await World().may("ann", "get", "pods")
    assert caught.value.code == 503
    asked = Attributes(User("system:node:n1", ("system:nodes",)), "get", "", "secrets", "", "a", "s")
    with pytest.raises(ApiError) as caught:
        await NodeAuthorizer(Graph().graph).authorize(asked)
    assert caught.value.code == 503


async def test_after_a_loss_of_history_everything_is_taken_in_anew(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("r", "get | core | pods"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    following = asyncio.create_task(world.rbac.run())
    await asyncio.sleep(0)
    store = world.kinds.store(resources.CLUSTER_ROLE_BINDINGS)
    assert (await world.may("ann", "get", "pods")).allowed
    # What is known holds until the new state is there.
    store.cache.reset()
    assert (await world.may("ann", "get", "pods")).allowed
    store.cache._entries.clear()
    store.cache._keys.clear()
    store.cache._loaded = True
    for _ in range(10):
        await asyncio.sleep(0)
    assert not (await world.may("ann", "get", "pods")).allowed
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("bob")))
    assert (await world.may("bob", "get", "pods")).allowed
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert store.cache.watchers() == []


async def test_what_clients_make_up_is_not_kept(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("r", "get | core | pods"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    for at in range(6000):
        await world.may("ann", "get", f"made-up-{at}", f"nowhere-{at}")
    access = world.rbac.access(authenticated("ann", ()), "")
    assert len(access._answers) <= 2048
    assert len(world.rbac._users[("ann", ("system:authenticated",))]) == 1


async def test_rules_for_a_user_are_those_of_the_cluster_and_the_namespace(world: World) -> None:
    world.put(resources.CLUSTER_ROLES, role("r", "get | core | pods", "get | /x"))
    world.put(resources.CLUSTER_ROLE_BINDINGS, binding("b", "r", user("ann")))
    world.put(resources.ROLES, role("own", "list | core | secrets | s", namespace="a"))
    world.put(resources.ROLE_BINDINGS, binding("o", "own", user("ann"), namespace="a", kind="Role"))
    found = await world.rbac.rules(authenticated("ann", ()), "a")
    assert found == RuleList(
        [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"]},
        ],
        [{"verbs": ["get"], "nonResourceURLs": ["/x"]}],
    )


async def test_the_first_to_decide_decides() -> None:
    class Fixed:
        def __init__(self, decision: Decision) -> None:
            self.decision = decision

        async def authorize(self, attributes: Attributes) -> Decision:
            return self.decision

        async def rules(self, user: User, namespace: str) -> RuleList:
            return RuleList([], [])

    ask = Attributes(User("ann"), "get", "", "pods")
    say = [Fixed(Decision(False, "one")), Fixed(Decision(False, "two"))]
    assert (await Union(say).authorize(ask)).reason == "one\ntwo"
    assert (await Union([*say, Fixed(ALLOWED)]).authorize(ask)).allowed
    assert not (await Union([Fixed(Decision(False, denied=True)), Fixed(ALLOWED)]).authorize(ask)).allowed
    assert (await Union(say).authorize(ask._replace(user=User("root", (MASTERS,))))).allowed


def lines(*found: str) -> list[Obj]:
    return [policy.parse_rule(each) for each in found]


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        (["* | * | *"], ["get delete | core apps | pods deployments"], 0),
        (["get | core | pods"], ["get list | core | pods"], 1),
        (["get | core | pods | a"], ["get | core | pods | a"], 0),
        (["get | core | pods | a"], ["get | core | pods"], 1),
        (["get | core | pods"], ["get | core | pods | a b"], 0),
        (["get | core | pods"], ["get | core | pods/log"], 1),
        (["get | core | */log"], ["get | core | pods/log"], 0),
        (["get | core | *"], ["get | core | pods/log"], 0),
        (["get | core | pods", "list | core | pods"], ["get list | core | pods"], 0),
        (["get | /a/*"], ["get | /a/b"], 0),
        (["get | /a/*"], ["get | /a/b/*"], 0),
        (["get | /a"], ["get | *"], 1),
        (["* | * | *"], ["get | /a"], 1),
        (["get | core | pods"], ["* | core | pods"], 1),
    ],
)
def test_what_one_may_give_away(owned: list[str], wanted: list[str], missing: int) -> None:
    assert len(rules.uncovered(lines(*owned), lines(*wanted))) == missing


def test_missing_rules_are_shown_in_upstream_notation() -> None:
    missing = rules.uncovered([], lines("get list | core | pods", "get | apps | deployments | a"))
    shown = sorted(rules.show(each) for each in rules.compact(missing))
    assert shown == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}',
        '{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["a"], Verbs:["get"]}',
    ]


def test_reconciliation_adds_and_never_takes_away() -> None:
    wanted = next(each for each in policy.cluster_roles() if each["metadata"]["name"] == "system:kube-dns")
    found = {**wanted, "metadata": {"name": "system:kube-dns", "labels": {"mine": "1"}}, "rules": lines("get | core | secrets")}
    new = merged(found, wanted)
    assert new is not None
    assert new["metadata"]["labels"] == {"mine": "1", "kubernetes.io/bootstrapping": "rbac-defaults"}
    assert new["rules"] == [*lines("get | core | secrets"), *wanted["rules"]]
    assert merged(new, wanted) is None
    left_alone = {**found, "metadata": {"name": "x", "annotations": {policy.AUTOUPDATE: "false"}}}
    assert merged(left_alone, wanted) is None
    wider = {**wanted, "rules": lines("* | core | *")}
    assert merged(wider, wanted) is None


def test_subjects_are_added_to_bindings() -> None:
    wanted = next(each for each in policy.cluster_role_bindings() if each["metadata"]["name"] == "system:public-info-viewer")
    fewer = {**wanted, "subjects": [*wanted["subjects"][:1], user("ann")]}
    new = merged(fewer, wanted)
    assert new is not None
    assert [each["name"] for each in new["subjects"]] == ["system:authenticated", "ann", "system:unauthenticated"]


def test_the_bootstrap_policy() -> None:
    found = {each["metadata"]["name"]: each for each in policy.cluster_roles()}
    assert all(each["metadata"]["annotations"] == {policy.AUTOUPDATE: "true"} for each in found.values())
    assert found["cluster-admin"]["rules"][0] == {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    assert found["edit"]["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    # What a namespace's own users may do never reaches beyond it.
    for name in ("admin", "edit", "view"):
        assert not rules.uncovered([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], found[name]["rules"])
        assert rules.uncovered(
            found[name]["rules"], lines("get | core | nodes", "create | core | namespaces", f"* | {_RBAC} | clusterroles")
        )
    assert (
        len(
            rules.uncovered(
                found["view"]["rules"], lines("get | core | secrets", "create | core | pods", "create get | core | pods/exec")
            )
        )
        == 4
    )
    assert not rules.uncovered(found["admin"]["rules"], found["edit"]["rules"])
    assert not rules.uncovered(found["edit"]["rules"], found["view"]["rules"])
    bound = {each["roleRef"]["name"] for each in policy.cluster_role_bindings()}
    assert bound <= found.keys()
    everybody = [
        each["metadata"]["name"]
        for each in policy.cluster_role_bindings()
        if any(subject["name"] == "system:unauthenticated" for subject in each.get("subjects", ()))
    ]
    assert everybody == ["system:public-info-viewer"]


# What nodes use


def pod(name: str, node: str, spec: Obj | None = None, phase: str = "Running", **metadata: Any) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "a", **metadata},
        "spec": {"nodeName": node, **(spec or {})},
        "status": {"phase": phase},
    }


WHOLE: Obj = {
    "serviceAccountName": "robot",
    "imagePullSecrets": [{"name": "pull"}],
    "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}}]}],
    "containers": [
        {
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "from-map"}}, {"secretRef": {"name": "from-secret"}}],
            "env": [
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "env-map", "key": "k"}}},
                {"name": "C", "value": "x"},
            ],
        }
    ],
    "volumes": [
        {"name": "s", "secret": {"secretName": "volume-secret"}},
        {"name": "m", "configMap": {"name": "volume-map"}},
        {"name": "p", "projected": {"sources": [{"secret": {"name": "part-secret"}}, {"configMap": {"name": "part-map"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "csi-secret"}}},
        {"name": "t", "emptyDir": {}},
    ],
}


def test_everything_that_a_pod_refers_to() -> None:
    found = references.of_pod(pod("p", "n1", WHOLE))
    assert found.secrets == {"pull", "env-secret", "from-secret", "volume-secret", "part-secret", "csi-secret"}
    assert found.config_maps == {"from-map", "env-map", "volume-map", "part-map"}
    assert found.claims == {"claim", "p-e"}
    assert found.account == "robot"


class Graph:
    def __init__(self) -> None:
        self.kinds = Kinds()
        self.graph = graphs.Graph(self.kinds)  # type: ignore[arg-type]

    def put(self, resource: resources.Resource, obj: Obj, *, deleted: bool = False) -> None:
        self.kinds.store(resource).put(obj, deleted=deleted)

    def secret(self, node: str, name: str, namespace: str = "a") -> bool:
        return self.graph.uses(node, "secrets", namespace, name)


@pytest.fixture
async def nodes() -> Graph:
    made = Graph()
    for each in made.graph._followers:
        await each.load()
    return made


def secret_pod(name: str, node: str, secret: str, **more: Any) -> Obj:
    return pod(name, node, {"volumes": [{"name": "s", "secret": {"secretName": secret}}]}, **more)


async def test_a_node_uses_what_its_pods_use(nodes: Graph) -> None:
    nodes.put(resources.PODS, secret_pod("p", "", "s"))
    assert not nodes.secret("", "s")
    nodes.put(resources.PODS, secret_pod("p", "n1", "s"))
    assert nodes.secret("n1", "s")
    assert not nodes.secret("n2", "s")
    assert not nodes.secret("n1", "s", "b")
    assert not nodes.secret("n1", "other")
    assert not nodes.graph.uses("n1", "configmaps", "a", "s")


async def test_the_last_pod_takes_the_right_with_it(nodes: Graph) -> None:
    nodes.put(resources.PODS, secret_pod("p", "n1", "s"))
    nodes.put(resources.PODS, secret_pod("q", "n1", "s"))
    nodes.put(resources.PODS, secret_pod("p", "n1", "s"), deleted=True)
    assert nodes.secret("n1", "s")
    nodes.put(resources.PODS, secret_pod("q", "n1", "s", phase="Succeeded"))
    assert not nodes.secret("n1", "s")
    assert nodes.graph.runs("n1", "a", "q")
    nodes.put(resources.PODS, secret_pod("q", "n1", "s", phase="Succeeded"), deleted=True)
    assert not nodes.graph.runs("n1", "a", "q")
    assert nodes.graph._users == {}


async def test_a_mirror_pod_gives_no_rights(nodes: Graph) -> None:
    nodes.put(resources.PODS, secret_pod("p", "n1", "s", annotations={"kubernetes.io/config.mirror": "x"}))
    assert not nodes.secret("n1", "s")
    assert nodes.graph.runs("n1", "a", "p")


async def test_ephemeral_containers_may_bring_new_references(nodes: Graph) -> None:
    nodes.put(resources.PODS, secret_pod("p", "n1", "s"))
    spec = {"ephemeralContainers": [{"name": "d", "envFrom": [{"secretRef": {"name": "late"}}]}]}
    nodes.put(resources.PODS, pod("p", "n1", spec))
    assert nodes.secret("n1", "late")


async def test_secrets_of_volumes_go_to_the_node_of_the_claims_pod(nodes: Graph) -> None:
    claim = {"volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "claim"}}]}
    nodes.put(resources.PODS, pod("p", "n1", claim))
    source = {"csi": {"driver": "d", "nodeStageSecretRef": {"name": "stage", "namespace": "sys"}}}
    volume = {"metadata": {"name": "v"}, "spec": {**source, "claimRef": {"namespace": "a", "name": "claim"}}}
    nodes.put(resources.PERSISTENT_VOLUMES, volume)
    assert nodes.graph.uses("n1", "persistentvolumeclaims", "a", "claim")
    assert nodes.graph.uses_volume("n1", "v")
    assert not nodes.graph.uses_volume("n2", "v")
    assert nodes.secret("n1", "stage", "sys")
    assert not nodes.secret("n2", "stage", "sys")
    nodes.put(resources.PERSISTENT_VOLUMES, volume, deleted=True)
    assert not nodes.secret("n1", "stage", "sys")
    assert nodes.graph._by_secret == {}


async def test_attachments_are_their_nodes(nodes: Graph) -> None:
    nodes.put(resources.VOLUME_ATTACHMENTS, {"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}})
    assert nodes.graph.attaches("n1", "va")
    assert not nodes.graph.attaches("n2", "va")
    nodes.put(resources.VOLUME_ATTACHMENTS, {"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}, deleted=True)
    assert not nodes.graph.attaches("n1", "va")
