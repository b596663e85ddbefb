"""The kinds that are served, as data: what they are called, where they live, what can be done with them.

A component that only talks about resources (a controller, the kubelet) imports this and nothing heavier. What the apiserver does differently for
a kind is in :mod:`kubeling.api.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)
READ_ONLY = ("get", "list")


class Subresource(NamedTuple):
    """`pods/eviction` and its like. `group`, `version` and `kind` are of the body that it takes; empty means the parent's own."""

    name: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    kind: str = ""
    group: str = ""
    version: str = ""


STATUS = Subresource("status")
SCALE = Subresource("scale", ("get", "patch", "update"), "Scale", "autoscaling", "v1")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A kind under one group and version. Hashable, so that it can key informers and caches; every request compares some and looks some up, so the
    hash is made once.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    singular: str = ""
    #: "group/version" under which objects of several versions of a kind are stored, where it is not this one's own.
    storage_version: str = ""
    #: Where the objects are kept: /registry/<storage_group>/<plural>; the core group's have none.
    storage_group: str = ""
    #: Whether objects are kept at all. Reviews are only answered; metrics are measured when they are asked for.
    kept: bool = True
    #: Whether it is served unless --runtime-config says something else.
    on: bool = True
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self._members()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Resource) and self._hash == other._hash and self._members() == other._members()

    def _members(self) -> tuple[object, ...]:
        return tuple(getattr(self, each) for each in _MEMBERS)

    @property
    def group_version(self) -> str:
        """What stands in apiVersion: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """What stands in messages: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name, None where there is none."""
        return next((each for each in self.subresources if each.name == name), None)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource. `namespace` None means all namespaces (or a cluster-scoped kind)."""
        parts = ["/api" if not self.group else f"/apis/{self.group}", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


_MEMBERS = tuple(each.name for each in fields(Resource) if each.name != "_hash")


def _r(group_version: str, plural: str, kind: str, short: str = "", *subresources: Subresource, **more: object) -> Resource:
    group, _, version = group_version.rpartition("/")
    names = tuple(short.split())
    return Resource(group, version, plural, kind, short_names=names, subresources=subresources, **more)  # type: ignore[arg-type]


_ALL = ("all",)
_API = ("api-extensions",)

BINDINGS = _r("v1", "bindings", "Binding", verbs=CREATE_ONLY)
COMPONENT_STATUSES = _r("v1", "componentstatuses", "ComponentStatus", "cs", namespaced=False, verbs=READ_ONLY)
CONFIG_MAPS = _r("v1", "configmaps", "ConfigMap", "cm")
ENDPOINTS = _r("v1", "endpoints", "Endpoints", "ep", singular="endpoints")
EVENTS = _r("v1", "events", "Event", "ev")
LIMIT_RANGES = _r("v1", "limitranges", "LimitRange", "limits")
NAMESPACES = _r(
    "v1",
    "namespaces",
    "Namespace",
    "ns",
    STATUS,
    Subresource("finalize", ("update",)),
    namespaced=False,
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
)
NODES = _r(
    "v1",
    "nodes",
    "Node",
    "no",
    STATUS,
    Subresource("proxy", ("create", "delete", "get", "patch", "update"), "NodeProxyOptions"),
    namespaced=False,
)
PERSISTENT_VOLUME_CLAIMS = _r("v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", STATUS)
PERSISTENT_VOLUMES = _r("v1", "persistentvolumes", "PersistentVolume", "pv", STATUS, namespaced=False)
PODS = _r(
    "v1",
    "pods",
    "Pod",
    "po",
    STATUS,
    Subresource("log", ("get",)),
    Subresource("exec", ("create", "get"), "PodExecOptions"),
    Subresource("attach", ("create", "get"), "PodAttachOptions"),
    Subresource("portforward", ("create", "get"), "PodPortForwardOptions"),
    Subresource("proxy", ("create", "delete", "get", "patch", "update"), "PodProxyOptions"),
    Subresource("binding", ("create",), "Binding"),
    Subresource("eviction", ("create",), "Eviction", "policy", "v1"),
    Subresource("ephemeralcontainers", ("get", "patch", "update")),
    Subresource("resize", ("get", "patch", "update")),
    Subresource("scheduling", ("get",)),
    categories=_ALL,
)
POD_TEMPLATES = _r("v1", "podtemplates", "PodTemplate")
REPLICATION_CONTROLLERS = _r("v1", "replicationcontrollers", "ReplicationController", "rc", STATUS, SCALE, categories=_ALL)
RESOURCE_QUOTAS = _r("v1", "resourcequotas", "ResourceQuota", "quota", STATUS)
SECRETS = _r("v1", "secrets", "Secret")
SERVICE_ACCOUNTS = _r(
    "v1",
    "serviceaccounts",
    "ServiceAccount",
    "sa",
    Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io", "v1"),
)
SERVICES = _r(
    "v1",
    "services",
    "Service",
    "svc",
    STATUS,
    Subresource("proxy", ("create", "delete", "get", "patch", "update"), "ServiceProxyOptions"),
    categories=_ALL,
)

DEPLOYMENTS = _r("apps/v1", "deployments", "Deployment", "deploy", STATUS, SCALE, categories=_ALL)
REPLICA_SETS = _r("apps/v1", "replicasets", "ReplicaSet", "rs", STATUS, SCALE, categories=_ALL)
DAEMON_SETS = _r("apps/v1", "daemonsets", "DaemonSet", "ds", STATUS, categories=_ALL)
STATEFUL_SETS = _r("apps/v1", "statefulsets", "StatefulSet", "sts", STATUS, SCALE, categories=_ALL)
CONTROLLER_REVISIONS = _r("apps/v1", "controllerrevisions", "ControllerRevision")

JOBS = _r("batch/v1", "jobs", "Job", "", STATUS, categories=_ALL)
CRON_JOBS = _r("batch/v1", "cronjobs", "CronJob", "cj", STATUS, categories=_ALL)

HORIZONTAL_POD_AUTOSCALERS = _r(
    "autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", STATUS, categories=_ALL
)
HORIZONTAL_POD_AUTOSCALERS_V1 = _r(
    "autoscaling/v1",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    "hpa",
    STATUS,
    categories=_ALL,
    storage_version="autoscaling/v2",
)

POD_DISRUPTION_BUDGETS = _r("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", STATUS)

INGRESSES = _r("networking.k8s.io/v1", "ingresses", "Ingress", "ing", STATUS)
INGRESS_CLASSES = _r("networking.k8s.io/v1", "ingressclasses", "IngressClass", namespaced=False)
NETWORK_POLICIES = _r("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", "netpol")
IP_ADDRESSES = _r("networking.k8s.io/v1", "ipaddresses", "IPAddress", "ip", namespaced=False)
SERVICE_CIDRS = _r("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", "", STATUS, namespaced=False)

ROLES = _r("rbac.authorization.k8s.io/v1", "roles", "Role")
ROLE_BINDINGS = _r("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = _r("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = _r("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)

STORAGE_CLASSES = _r("storage.k8s.io/v1", "storageclasses", "StorageClass", "sc", namespaced=False)
VOLUME_ATTACHMENTS = _r("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", "", STATUS, namespaced=False)
CSI_DRIVERS = _r("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
CSI_NODES = _r("storage.k8s.io/v1", "csinodes", "CSINode", namespaced=False)
CSI_STORAGE_CAPACITIES = _r("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity")

PRIORITY_CLASSES = _r("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", "pc", namespaced=False)
RUNTIME_CLASSES = _r("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", namespaced=False)
ENDPOINT_SLICES = _r("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
EVENTS_V1 = _r("events.k8s.io/v1", "events", "Event", "ev", storage_version="v1")
LEASES = _r("coordination.k8s.io/v1", "leases", "Lease")
CERTIFICATE_SIGNING_REQUESTS = _r(
    "certificates.k8s.io/v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    "csr",
    STATUS,
    Subresource("approval"),
    namespaced=False,
)

MUTATING_WEBHOOK_CONFIGURATIONS = _r(
    "admissionregistration.k8s.io/v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
    categories=_API,
)
VALIDATING_WEBHOOK_CONFIGURATIONS = _r(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
    categories=_API,
)
VALIDATING_ADMISSION_POLICIES = _r(
    "admissionregistration.k8s.io/v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    "",
    STATUS,
    namespaced=False,
    categories=_API,
)
VALIDATING_ADMISSION_POLICY_BINDINGS = _r(
    "admissionregistration.k8s.io/v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
    categories=_API,
)
CUSTOM_RESOURCE_DEFINITIONS = _r(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    "crd crds",
    STATUS,
    namespaced=False,
    categories=_API,
    storage_group="apiextensions.k8s.io",
)
FLOW_SCHEMAS = _r("flowcontrol.apiserver.k8s.io/v1", "flowschemas", "FlowSchema", "", STATUS, namespaced=False)
PRIORITY_LEVEL_CONFIGURATIONS = _r(
    "flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", "", STATUS, namespaced=False
)

TOKEN_REVIEWS = _r("authentication.k8s.io/v1", "tokenreviews", "TokenReview", namespaced=False, verbs=CREATE_ONLY)
SELF_SUBJECT_REVIEWS = _r(
    "authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=CREATE_ONLY
)
#: kubectl before 1.28 knows no other.
SELF_SUBJECT_REVIEWS_V1BETA1 = _r(
    "authentication.k8s.io/v1beta1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=CREATE_ONLY
)
SELF_SUBJECT_REVIEWS_V1ALPHA1 = _r(
    "authentication.k8s.io/v1alpha1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=CREATE_ONLY
)
SUBJECT_ACCESS_REVIEWS = _r(
    "authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=CREATE_ONLY
)
SELF_SUBJECT_ACCESS_REVIEWS = _r(
    "authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=CREATE_ONLY
)
SELF_SUBJECT_RULES_REVIEWS = _r(
    "authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False, verbs=CREATE_ONLY
)
LOCAL_SUBJECT_ACCESS_REVIEWS = _r(
    "authorization.k8s.io/v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=CREATE_ONLY
)

NODE_METRICS = _r("metrics.k8s.io/v1beta1", "nodes", "NodeMetrics", namespaced=False, singular="", verbs=READ_ONLY, kept=False)
POD_METRICS = _r("metrics.k8s.io/v1beta1", "pods", "PodMetrics", singular="", verbs=READ_ONLY, kept=False)

API_SERVICES = _r(
    "apiregistration.k8s.io/v1",
    "apiservices",
    "APIService",
    "",
    STATUS,
    namespaced=False,
    categories=_API,
    storage_group="apiregistration.k8s.io",
)

STORAGE_VERSIONS = _r(
    "internal.apiserver.k8s.io/v1alpha1", "storageversions", "StorageVersion", "", STATUS, namespaced=False, on=False
)
STORAGE_VERSION_MIGRATIONS = _r(
    "storagemigration.k8s.io/v1alpha1",
    "storageversionmigrations",
    "StorageVersionMigration",
    "",
    STATUS,
    namespaced=False,
    on=False,
)

_ALL_BUILTIN = tuple(value for value in list(globals().values()) if isinstance(value, Resource))
#: Every resource that is served by itself, in the order in which discovery shows them. Of a kind's versions the preferred one comes first.
BUILTIN: tuple[Resource, ...] = tuple(each for each in _ALL_BUILTIN if each.on)
#: Those that are served where --runtime-config asks for them.
ON_REQUEST: tuple[Resource, ...] = tuple(each for each in _ALL_BUILTIN if not each.on)

_BY_PLURAL = {(each.group, each.version, each.plural): each for each in _ALL_BUILTIN}
_BY_KIND = {(each.group, each.version, each.kind): each for each in _ALL_BUILTIN}


def by_plural(group: str, version: str, plural: str) -> Resource | None:
    """The built-in resource at that place in a URL."""
    return _BY_PLURAL.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The built-in resource of an object's apiVersion and kind."""
    group, _, version = api_version.rpartition("/")
    return _BY_KIND.get((group, version, kind))


def versions_of(stored: Resource) -> tuple[str, ...]:
    """ "group/version" of all built-in versions of the kind that is stored as this."""
    others = (each for each in _ALL_BUILTIN if each.kind == stored.kind and each.storage_version == stored.group_version)
    return (stored.group_version, *(each.group_version for each in others))


def group_versions(resources: Iterable[Resource] = BUILTIN) -> dict[str, list[str]]:
    """Group → its versions, preferred first; groups in the order in which they first appear."""
    found: dict[str, list[str]] = {}
    for each in resources:
        versions = found.setdefault(each.group, [])
        if each.version not in versions:
            versions.append(each.version)
    return found
