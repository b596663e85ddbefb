"""Which admission plug-ins there are, in the order in which they run, and which of them do without being asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from kubeling.api.names import Random
from kubeling.apiserver.admission.certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction
from kubeling.apiserver.admission.chain import Chain, Plugin
from kubeling.apiserver.admission.expressions import Expressions
from kubeling.apiserver.admission.lifecycle import NamespaceLifecycle
from kubeling.apiserver.admission.limit_ranger import LimitRanger
from kubeling.apiserver.admission.node_restriction import NodeRestriction
from kubeling.apiserver.admission.pod_security import PodSecurity, Settings
from kubeling.apiserver.admission.priority import Priority
from kubeling.apiserver.admission.resource_quota import ResourceQuota
from kubeling.apiserver.admission.runtime_class import RuntimeClass
from kubeling.apiserver.admission.serviceaccount import ServiceAccount
from kubeling.apiserver.admission.small import (
    AlwaysPullImages,
    DefaultIngressClass,
    DenyServiceExternalIPs,
    ExtendedResourceToleration,
    TaintNodesByCondition,
)
from kubeling.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from kubeling.apiserver.admission.tolerations import DefaultTolerationSeconds
from kubeling.apiserver.admission.validating_policy import ValidatingAdmissionPolicy
from kubeling.apiserver.admission.webhooks.call import Webhooks
from kubeling.apiserver.admission.webhooks.mutating import MutatingAdmissionWebhook
from kubeling.apiserver.admission.webhooks.validating import ValidatingAdmissionWebhook
from kubeling.apiserver.authz.authorizer import Authorizer
from kubeling.apiserver.cache.hub import Hub
from kubeling.apiserver.outbound import Caller
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.apiserver.targets import Targets
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError


@dataclass(frozen=True, slots=True)
class Parts:
    """What plug-ins are made of."""

    kinds: Kinds
    hub: Hub
    clock: Clock
    random: Random
    caller: Caller
    targets: Targets
    authorizer: Authorizer
    pod_security: Settings = field(default_factory=Settings)

    def webhooks(self) -> Webhooks:
        return Webhooks(self.kinds, self.caller, self.targets, Expressions(self.authorizer))


#: Name, constructor, and whether it is there by default; the order is upstream's.
_PLUGINS: tuple[tuple[str, Callable[[Parts], Plugin], bool], ...] = (
    ("NamespaceLifecycle", lambda parts: NamespaceLifecycle(parts.kinds, parts.clock), True),
    ("LimitRanger", lambda parts: LimitRanger(parts.kinds), True),
    ("ServiceAccount", lambda parts: ServiceAccount(parts.kinds, parts.hub, parts.clock, parts.random), True),
    ("NodeRestriction", lambda parts: NodeRestriction(parts.kinds, parts.authorizer), True),
    ("TaintNodesByCondition", lambda parts: TaintNodesByCondition(), False),
    ("AlwaysPullImages", lambda parts: AlwaysPullImages(), False),
    ("PodSecurity", lambda parts: PodSecurity(parts.kinds, parts.pod_security), True),
    ("Priority", lambda parts: Priority(parts.kinds), True),
    ("DefaultTolerationSeconds", lambda parts: DefaultTolerationSeconds(), True),
    ("ExtendedResourceToleration", lambda parts: ExtendedResourceToleration(), False),
    ("DefaultStorageClass", lambda parts: DefaultStorageClass(parts.kinds), True),
    ("StorageObjectInUseProtection", lambda parts: StorageObjectInUseProtection(), True),
    ("PersistentVolumeClaimResize", lambda parts: PersistentVolumeClaimResize(parts.kinds), True),
    ("RuntimeClass", lambda parts: RuntimeClass(parts.kinds), True),
    ("CertificateApproval", lambda parts: CertificateApproval(parts.authorizer), True),
    ("CertificateSigning", lambda parts: CertificateSigning(parts.authorizer), True),
    ("CertificateSubjectRestriction", lambda parts: CertificateSubjectRestriction(), True),
    ("DefaultIngressClass", lambda parts: DefaultIngressClass(parts.kinds), True),
    ("DenyServiceExternalIPs", lambda parts: DenyServiceExternalIPs(), False),
    ("MutatingAdmissionWebhook", lambda parts: MutatingAdmissionWebhook(parts.kinds, parts.webhooks()), True),
    ("ValidatingAdmissionPolicy", lambda parts: ValidatingAdmissionPolicy(parts.kinds, Expressions(parts.authorizer)), True),
    ("ValidatingAdmissionWebhook", lambda parts: ValidatingAdmissionWebhook(parts.kinds, parts.webhooks()), True),
    ("ResourceQuota", lambda parts: ResourceQuota(parts.kinds, parts.clock), True),
)
NAMES = tuple(name for name, _, _ in _PLUGINS)


def chain(parts: Parts, enabled: Collection[str] = (), disabled: Collection[str] = ()) -> Chain:
    """The chain. UsageError for a name that nobody knows, or that is both enabled and disabled."""
    for flag, names in (("--enable-admission-plugins", enabled), ("--disable-admission-plugins", disabled)):
        unknown = [each for each in names if each not in NAMES]
        if unknown:
            raise UsageError(f"{flag}: unknown plug-in {', '.join(unknown)}; known are {', '.join(NAMES)}")
    both = [each for each in enabled if each in disabled]
    if both:
        raise UsageError(f"{', '.join(both)}: in --enable-admission-plugins and in --disable-admission-plugins; choose one")
    return Chain([make(parts) for name, make, usual in _PLUGINS if (usual or name in enabled) and name not in disabled])
