"""Ingresses, network policies, and the ranges of Service addresses."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import TypedLocalObjectReference
from kubeling.api.types.declare import atomic, f, inline
from kubeling.api.types.meta_v1 import Condition, KubeList, KubeObject, LabelSelector
from kubeling.api.types.scalars import Int32, IntOrString


class ServiceBackendPort(TypedDict, total=False):
    """A port of a Service, by name or by number."""

    name: Annotated[str, f(1, "Name of the port.")]
    number: Annotated[Int32, f(2, "Number of the port.")]


atomic(ServiceBackendPort)


class IngressServiceBackend(TypedDict, total=False):
    """A Service as the target of traffic."""

    name: Annotated[Required[str], f(1, "Name of the Service, in the same namespace.")]
    port: Annotated[ServiceBackendPort, f(2, "Port of the Service.")]


class IngressBackend(TypedDict, total=False):
    """Target of traffic; one member is set."""

    service: Annotated[IngressServiceBackend, f(4, "A Service.", pointer=True)]
    resource: Annotated[TypedLocalObjectReference, f(3, "Another object of the namespace.", pointer=True)]


class HTTPIngressPath(TypedDict, total=False):
    """A path and where it leads."""

    path: Annotated[str, f(1, "The path; begins with /.")]
    pathType: Annotated[Required[str], f(3, "Exact, Prefix or ImplementationSpecific.", pointer=True)]
    backend: Annotated[Required[IngressBackend], f(2, "Where the traffic goes.")]


class HTTPIngressRuleValue(TypedDict, total=False):
    """Paths and where they lead."""

    paths: Annotated[Required[list[HTTPIngressPath]], f(1, "The paths.", list_type="atomic")]


class IngressRuleValue(TypedDict, total=False):
    """What a rule does."""

    http: Annotated[HTTPIngressRuleValue, f(1, "Paths and where they lead.", pointer=True)]


class IngressRule(IngressRuleValue, total=False):
    """A host and its paths."""

    host: Annotated[str, f(1, "Name of the host, or *. and a domain; all where it is not given.")]


inline(IngressRule, IngressRuleValue, "ingressRuleValue", 2)


class IngressTLS(TypedDict, total=False):
    """Hosts that share a certificate."""

    hosts: Annotated[list[str], f(1, "The hosts; must be in the certificate.", list_type="atomic")]
    secretName: Annotated[str, f(2, "Secret with the certificate and its key.")]


class IngressSpec(TypedDict, total=False):
    """What an Ingress lets in."""

    ingressClassName: Annotated[str, f(4, "The IngressClass that serves it.", pointer=True)]
    defaultBackend: Annotated[IngressBackend, f(1, "Where traffic goes that no rule matches.", pointer=True)]
    tls: Annotated[list[IngressTLS], f(2, "Certificates by host; TLS is on port 443.", list_type="atomic")]
    rules: Annotated[
        list[IngressRule], f(3, "Hosts and paths; all goes to the default backend where there are none.", list_type="atomic")
    ]


class IngressPortStatus(TypedDict, total=False):
    """State of a load balancer's port."""

    port: Annotated[Required[Int32], f(1, "Number of the port.")]
    protocol: Annotated[Required[str], f(2, "TCP, UDP or SCTP.")]
    error: Annotated[str, f(3, "Why the port is not served, in one CamelCase word.", pointer=True)]


class IngressLoadBalancerIngress(TypedDict, total=False):
    """A way into a load balancer."""

    ip: Annotated[str, f(1, "Its address.")]
    hostname: Annotated[str, f(2, "Its DNS name.")]
    ports: Annotated[list[IngressPortStatus], f(4, "State of its ports.", list_type="atomic")]


class IngressLoadBalancerStatus(TypedDict, total=False):
    """State of a load balancer."""

    ingress: Annotated[list[IngressLoadBalancerIngress], f(1, "Ways into it.", list_type="atomic")]


class IngressStatus(TypedDict, total=False):
    """State of an Ingress."""

    loadBalancer: Annotated[IngressLoadBalancerStatus, f(1, "State of the load balancer.")]


class Ingress(KubeObject, total=False):
    """Leads HTTP traffic from outside to Services."""

    spec: Annotated[IngressSpec, f(2, "What is wanted.")]
    status: Annotated[IngressStatus, f(3, "What has been observed; written by the system.")]


class IngressList(KubeList, total=False):
    """A list of Ingresses."""

    items: Annotated[Required[list[Ingress]], f(2, "The Ingresses.")]


class IngressClassParametersReference(TypedDict, total=False):
    """Points at the parameters of a class."""

    apiGroup: Annotated[str, f(1, "API group; empty for the core group.", pointer=True, wire="aPIGroup")]
    kind: Annotated[Required[str], f(2, "Kind of the object.")]
    name: Annotated[Required[str], f(3, "Name of the object.")]
    scope: Annotated[str, f(4, "Cluster or Namespace; Cluster by default.", pointer=True)]
    namespace: Annotated[str, f(5, "Namespace of the object; only with the scope Namespace.", pointer=True)]


class IngressClassSpec(TypedDict, total=False):
    """Who serves the Ingresses of a class."""

    controller: Annotated[str, f(1, "Name of the controller, as <domain>/<path>; cannot be changed.")]
    parameters: Annotated[IngressClassParametersReference, f(2, "An object with more settings for the controller.", pointer=True)]


class IngressClass(KubeObject, total=False):
    """A class of Ingresses and the controller that serves them."""

    spec: Annotated[IngressClassSpec, f(2, "What is wanted.")]


class IngressClassList(KubeList, total=False):
    """A list of IngressClasses."""

    items: Annotated[Required[list[IngressClass]], f(2, "The IngressClasses.")]


_IPBlockWords = TypedDict(
    "_IPBlockWords",
    {"except": Annotated[list[str], f(2, "Ranges within it that are left out.", list_type="atomic")]},
    total=False,
)


class IPBlock(_IPBlockWords, total=False):
    """A range of addresses."""

    cidr: Annotated[Required[str], f(1, "The range.")]


class NetworkPolicyPeer(TypedDict, total=False):
    """The other side of a connection: pods, or a range of addresses."""

    podSelector: Annotated[
        LabelSelector, f(1, "Pods by their labels; in the own namespace unless namespaceSelector is given.", pointer=True)
    ]
    namespaceSelector: Annotated[
        LabelSelector, f(2, "Which namespaces, by their labels; an empty selector means all.", pointer=True)
    ]
    ipBlock: Annotated[IPBlock, f(3, "A range of addresses; excludes the selectors.", pointer=True)]


class NetworkPolicyPort(TypedDict, total=False):
    """A port, or a range of ports."""

    protocol: Annotated[str, f(1, "TCP, UDP or SCTP; TCP by default.", pointer=True)]
    port: Annotated[IntOrString, f(2, "Number of the port or its name in the pods; all where it is not given.", pointer=True)]
    endPort: Annotated[Int32, f(3, "Last port of a range that begins with port.", pointer=True)]


_NetworkPolicyIngressRuleWords = TypedDict(
    "_NetworkPolicyIngressRuleWords",
    {"from": Annotated[list[NetworkPolicyPeer], f(2, "From whom; all where it is empty.", list_type="atomic")]},
    total=False,
)


class NetworkPolicyIngressRule(_NetworkPolicyIngressRuleWords, total=False):
    """Connections that are let in."""

    ports: Annotated[list[NetworkPolicyPort], f(1, "To which ports; all where it is empty.", list_type="atomic")]


class NetworkPolicyEgressRule(TypedDict, total=False):
    """Connections that are let out."""

    ports: Annotated[list[NetworkPolicyPort], f(1, "To which ports; all where it is empty.", list_type="atomic")]
    to: Annotated[list[NetworkPolicyPeer], f(2, "To whom; all where it is empty.", list_type="atomic")]


class NetworkPolicySpec(TypedDict, total=False):
    """What a policy lets through."""

    podSelector: Annotated[
        Required[LabelSelector], f(1, "Pods that the policy is about; an empty selector means all of the namespace.")
    ]
    ingress: Annotated[list[NetworkPolicyIngressRule], f(2, "What is let in; nothing where it is empty.", list_type="atomic")]
    egress: Annotated[list[NetworkPolicyEgressRule], f(3, "What is let out; nothing where it is empty.", list_type="atomic")]
    policyTypes: Annotated[
        list[str],
        f(
            4,
            "Ingress, Egress or both: what the policy restricts; Ingress, and Egress where there are such rules, by default.",
            list_type="atomic",
        ),
    ]


class NetworkPolicy(KubeObject, total=False):
    """Restricts the connections of pods."""

    spec: Annotated[NetworkPolicySpec, f(2, "What is wanted.")]


class NetworkPolicyList(KubeList, total=False):
    """A list of NetworkPolicies."""

    items: Annotated[Required[list[NetworkPolicy]], f(2, "The NetworkPolicies.")]


class ParentReference(TypedDict, total=False):
    """The object that an address belongs to."""

    group: Annotated[str, f(1, "API group; empty for the core group.")]
    resource: Annotated[str, f(2, "Plural name of the resource, in lower case.")]
    namespace: Annotated[str, f(3, "Namespace of the object.")]
    name: Annotated[str, f(4, "Name of the object.")]


class IPAddressSpec(TypedDict, total=False):
    """What an address is used for."""

    parentRef: Annotated[ParentReference, f(1, "The object that it belongs to.", pointer=True)]


class IPAddress(KubeObject, total=False):
    """An address that is taken; its name is the address."""

    spec: Annotated[IPAddressSpec, f(2, "What is wanted.")]


class IPAddressList(KubeList, total=False):
    """A list of IPAddresses."""

    items: Annotated[Required[list[IPAddress]], f(2, "The IPAddresses.")]


class ServiceCIDRSpec(TypedDict, total=False):
    """Ranges for Service addresses."""

    cidrs: Annotated[list[str], f(1, "The ranges, one a family; cannot be changed.", list_type="atomic")]


class ServiceCIDRStatus(TypedDict, total=False):
    """State of a range."""

    conditions: Annotated[list[Condition], f(1, "The latest observations, one for each type.", merge_key="type", keys="type")]


class ServiceCIDR(KubeObject, total=False):
    """A range from which Services get their addresses."""

    spec: Annotated[ServiceCIDRSpec, f(2, "What is wanted.")]
    status: Annotated[ServiceCIDRStatus, f(3, "What has been observed; written by the system.")]


class ServiceCIDRList(KubeList, total=False):
    """A list of ServiceCIDRs."""

    items: Annotated[Required[list[ServiceCIDR]], f(2, "The ServiceCIDRs.")]
