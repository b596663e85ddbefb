"""NodeRestriction: what a kubelet writes, it writes of itself and of the pods that are bound to it.

The node authorizer has said that a node may touch this kind at all; here the object is seen. A node may not make itself another, give itself labels by which it would attract
other people's pods, take taints off, create pods other than mirrors of its own static ones, or get tokens for pods that it does not run.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kubeling.api import errors, references, resources
from kubeling.api.errors import ApiError
from kubeling.api.resources import Resource
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.authz import authorizer as authz
from kubeling.apiserver.authz.node import LEASE_NAMESPACE, node_of
from kubeling.apiserver.registry.kinds import Kinds

Object = dict[str, Any]

_MIRROR = "kubernetes.io/config.mirror"
_RESERVED = "node-restriction.kubernetes.io"
#: Labels in kubernetes.io and k8s.io that a node may set itself, besides those with the two prefixes.
_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_NODE_SIGNERS = frozenset({"kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"})
_AUDIENCE_VERB = "request-serviceaccounts-token-audience"


class NodeRestriction(Plugin):
    """See the module. `authorizer` is asked for audiences that no volume of the pod has."""

    def __init__(self, kinds: Kinds, authorizer: authz.Authorizer) -> None:
        self._kinds = kinds
        self._authorizer = authorizer

    async def admit(self, attributes: Attributes) -> None:
        node, is_node = node_of(attributes.user)
        if not is_node:
            return
        if not node:
            raise _refuse(attributes, f'could not determine node from user "{attributes.user.name}"')
        kind = (attributes.resource.group, attributes.resource.plural)
        if kind == ("", "pods"):
            await self._pod(attributes, node)
        elif kind == ("", "nodes"):
            _node(attributes, node)
        elif kind == ("", "persistentvolumeclaims"):
            _claim(attributes, node)
        elif kind == ("", "serviceaccounts"):
            await self._token(attributes, node)
        elif kind == ("coordination.k8s.io", "leases"):
            _lease(attributes, node)
        elif kind == ("storage.k8s.io", "csinodes"):
            _csi_node(attributes, node)
        elif kind == ("certificates.k8s.io", "certificatesigningrequests"):
            _request(attributes, node)

    async def _pod(self, attributes: Attributes, node: str) -> None:
        subresource, operation = attributes.subresource, attributes.operation
        if subresource == "status" and operation == "UPDATE":
            _pod_status(attributes, node)
        elif subresource == "eviction" and operation == "CREATE":
            pod = await self._peek(resources.PODS, attributes.namespace, attributes.name)
            if pod is None or _node_name(pod) != node:
                raise _refuse(attributes, f"node {node} can only evict pods with spec.nodeName set to itself")
        elif subresource:
            raise _refuse(attributes, f"unexpected pod subresource \"{subresource}\", only 'status' and 'eviction' are allowed")
        elif operation == "CREATE":
            await self._mirror(attributes, node)
        elif operation == "DELETE":
            if _node_name(attributes.old or {}) != node:
                raise _refuse(attributes, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            why = f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
            raise _refuse(attributes, why)

    async def _mirror(self, attributes: Attributes, node: str) -> None:
        pod = attributes.obj or {}
        who = f'node "{node}" can only create'
        if _MIRROR not in (pod["metadata"].get("annotations") or {}):
            raise _refuse(attributes, f'pod does not have "{_MIRROR}" annotation, {who} mirror pods')
        if _node_name(pod) != node:
            raise _refuse(attributes, f"{who} pods with spec.nodeName set to itself")
        owners = pod["metadata"].get("ownerReferences") or []
        if not owners:
            raise _refuse(attributes, f"{who} pods with an owner reference set to itself")
        owner = owners[0]
        if len(owners) > 1:
            raise _refuse(attributes, f"{who} pods with a single owner reference set to itself")
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise _refuse(attributes, f"{who} pods with an owner reference set to itself")
        if not owner.get("controller"):
            raise _refuse(attributes, f"{who} pods with a controller owner reference set to itself")
        if owner.get("blockOwnerDeletion"):
            raise _refuse(attributes, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        found = await self._peek(resources.NODES, "", node)
        expected = "" if found is None else found["metadata"]["uid"]
        if owner.get("uid") != expected:
            raise _refuse(attributes, f"node {node} UID mismatch: expected {expected} got {owner.get('uid')}")
        self._no_references(attributes, node, pod)

    def _no_references(self, attributes: Attributes, node: str, pod: Object) -> None:
        """Otherwise a node could have itself shown whatever it likes."""
        found = references.of_pod(pod)
        for what, names in (
            ("a service account", found.account or any(references.token_audiences(pod))),
            ("secrets", found.secrets),
            ("configmaps", found.config_maps),
            ("persistentvolumeclaims", found.claims),
            ("resource claims", (pod.get("spec") or {}).get("resourceClaims")),
        ):
            if names:
                raise _refuse(attributes, f'node "{node}" can not create pods that reference {what}')

    async def _token(self, attributes: Attributes, node: str) -> None:
        if attributes.subresource != "token" or attributes.operation != "CREATE":
            return
        spec = (attributes.obj or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod") or not bound.get("name"):
            raise _refuse(attributes, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise _refuse(attributes, "node requested token with a pod binding without a uid")
        pod = await self._peek(resources.PODS, attributes.namespace, bound["name"])
        if pod is None:
            raise errors.not_found("", "pods", bound["name"])
        uid = pod["metadata"]["uid"]
        if uid != bound["uid"]:
            why = f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record ({uid})."
            raise _refuse(attributes, f"{why} The object might have been deleted and then recreated")
        if _node_name(pod) != node:
            raise _refuse(attributes, "node requested token bound to a pod scheduled on a different node")
        await self._audiences(attributes, spec.get("audiences") or [""], pod)

    async def _audiences(self, attributes: Attributes, wanted: list[str], pod: Object) -> None:
        """Only audiences that the pod's volumes ask for, or for which the node has a right of its own (KEP-4412)."""
        if len(wanted) > 1:
            raise _refuse(attributes, f"node may only request 0 or 1 audiences, got {len(wanted)}")
        audience = wanted[0]
        if not audience or audience in references.token_audiences(pod):
            return
        for name in references.csi_drivers(pod) | await self._claimed_drivers(pod):
            driver = await self._peek(resources.CSI_DRIVERS, "", name)
            requests = ((driver or {}).get("spec") or {}).get("tokenRequests") or ()
            if any((each.get("audience") or "") == audience for each in requests):
                return
        asked = authz.Attributes(
            attributes.user, _AUDIENCE_VERB, "", audience, "", attributes.namespace, attributes.name, version="v1"
        )
        if not (await self._authorizer.authorize(asked)).allowed:
            raise _refuse(attributes, f'audience "{audience}" not found in pod spec volume')

    async def _claimed_drivers(self, pod: Object) -> set[str]:
        """The CSI drivers of the volumes that the pod's claims are bound to."""
        found = set()
        for name in references.of_pod(pod).claims:
            claim = await self._peek(resources.PERSISTENT_VOLUME_CLAIMS, pod["metadata"]["namespace"], name)
            volume_name = ((claim or {}).get("spec") or {}).get("volumeName")
            volume = await self._peek(resources.PERSISTENT_VOLUMES, "", volume_name) if volume_name else None
            driver = (((volume or {}).get("spec") or {}).get("csi") or {}).get("driver")
            if driver:
                found.add(driver)
        return found

    async def _peek(self, resource: Resource, namespace: str, name: str) -> Object | None:
        found = await self._kinds.store(resource).peek(namespace, name)
        return None if found is None else found.object()


def _refuse(attributes: Attributes, why: str) -> ApiError:
    resource = attributes.resource
    return errors.forbidden(resource.group, resource.plural, attributes.name, why)


def _node_name(pod: Object) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


def _pod_status(attributes: Attributes, node: str) -> None:
    new, old = attributes.obj or {}, attributes.old or {}
    if _node_name(old) != node:
        raise _refuse(attributes, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise _refuse(attributes, f'node "{node}" cannot update labels through pod status')
    for key in ("resourceClaimStatuses",):
        if ((new.get("status") or {}).get(key) or []) != ((old.get("status") or {}).get(key) or []):
            raise _refuse(attributes, f'node "{node}" cannot update resource claim statuses')


def _node(attributes: Attributes, node: str) -> None:
    new, old = attributes.obj, attributes.old
    name = attributes.name or ((new or {}).get("metadata") or {}).get("name") or ""
    if name != node:
        raise _refuse(attributes, f'node "{node}" is not allowed to modify node "{name}"')
    if new is None:
        return
    before: Object = {} if old is None else old["metadata"]
    wrong = _forbidden_labels(new["metadata"].get("labels") or {}, before.get("labels") or {})
    if old is None:
        if wrong:
            raise _refuse(attributes, f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}')
        return
    if wrong:
        raise _refuse(attributes, f'node "{node}" is not allowed to modify labels: {", ".join(wrong)}')
    if ((new.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
        raise _refuse(attributes, f'node "{node}" is not allowed to modify taints')
    if (new["metadata"].get("ownerReferences") or []) != (before.get("ownerReferences") or []):
        raise _refuse(attributes, f'node "{node}" is not allowed to modify ownerReferences')


def _forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The changed labels that are not for a node to change."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return sorted(each for each in changed if _is_forbidden(each))


def _is_forbidden(label: str) -> bool:
    domain, slash, _ = label.partition("/")
    if not slash:
        return False
    if _within(domain, _RESERVED):
        return True
    if not _within(domain, "kubernetes.io") and not _within(domain, "k8s.io"):
        return False
    return label not in _LABELS and not any(_within(domain, each) for each in _LABEL_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)


def _claim(attributes: Attributes, node: str) -> None:
    """Of a claim a node changes the status only: that its volume was grown."""
    if attributes.operation != "UPDATE" or attributes.subresource != "status":
        why = (
            f'unexpected operation "{attributes.operation}", node "{node}" may only update the status of a persistentvolumeclaim'
        )
        raise _refuse(attributes, why)
    new, old = attributes.obj or {}, attributes.old or {}
    changed = {key for key in new.keys() | old.keys() if key not in ("status", "metadata") and new.get(key) != old.get(key)}
    meta, before = new.get("metadata") or {}, old.get("metadata") or {}
    changed |= {key for key in ("labels", "annotations", "finalizers", "ownerReferences") if meta.get(key) != before.get(key)}
    if changed:
        raise _refuse(
            attributes, f'node "{node}" is not allowed to update fields other than status: {", ".join(sorted(changed))}'
        )


def _lease(attributes: Attributes, node: str) -> None:
    if attributes.namespace != LEASE_NAMESPACE:
        raise _refuse(attributes, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
    if _given_name(attributes) != node:
        raise _refuse(attributes, "can only access node lease with the same name as the requesting node")


def _csi_node(attributes: Attributes, node: str) -> None:
    if _given_name(attributes) != node:
        raise _refuse(attributes, "can only access CSINode with the same name as the requesting node")


def _given_name(attributes: Attributes) -> str:
    """Of a creation the name in the object."""
    return attributes.name or ((attributes.obj or {}).get("metadata") or {}).get("name") or ""


def _request(attributes: Attributes, node: str) -> None:
    """A certificate for a node is only for that node."""
    spec = (attributes.obj or {}).get("spec") or {}
    if attributes.operation != "CREATE" or attributes.subresource or spec.get("signerName") not in _NODE_SIGNERS:
        return
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
    except (ValueError, TypeError, binascii.Error):
        raise _refuse(attributes, "unable to parse csr") from None
    names = [str(each.value) for each in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [f"system:node:{node}"]:
        raise _refuse(attributes, f"can only create a node CSR with CN=system:node:{node}")
