"""Services, the addresses behind them, and load balancers."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import ObjectReference
from kubeling.api.types.declare import atomic, f
from kubeling.api.types.meta_v1 import Condition, KubeList, KubeObject
from kubeling.api.types.scalars import Int32, IntOrString


class ServicePort(TypedDict, total=False):
    """A port of a Service."""

    name: Annotated[str, f(1, "Name of the port; needed where there are several.")]
    protocol: Annotated[str, f(2, "TCP, UDP or SCTP; TCP by default.", default="TCP")]
    appProtocol: Annotated[str, f(6, "Application protocol, such as http or kubernetes.io/h2c; a hint.", pointer=True)]
    port: Annotated[Required[Int32], f(3, "Port of the Service.")]
    targetPort: Annotated[IntOrString, f(4, "Number or name of the pods' port; the same as port by default.")]
    nodePort: Annotated[Int32, f(5, "Port on every node, for NodePort and LoadBalancer; picked where it is not given.")]


class ClientIPConfig(TypedDict, total=False):
    """Stickiness by the client's address."""

    timeoutSeconds: Annotated[Int32, f(1, "How long a client stays with a pod, 1 to 86400; 10800 by default.", pointer=True)]


class SessionAffinityConfig(TypedDict, total=False):
    """Settings of stickiness."""

    clientIP: Annotated[ClientIPConfig, f(1, "Stickiness by the client's address.", pointer=True)]


class ServiceSpec(TypedDict, total=False):
    """What a Service offers, and by which pods."""

    ports: Annotated[list[ServicePort], f(1, "Ports that the Service offers.", merge_key="port", keys="port protocol")]
    selector: Annotated[
        dict[str, str], f(2, "Labels of the pods behind it; without one the endpoints are kept by hand.", atomic=True)
    ]
    clusterIP: Annotated[str, f(3, "Virtual address; picked where it is not given, None for a headless Service.")]
    clusterIPs: Annotated[list[str], f(18, "Virtual addresses, one a family; the first equals clusterIP.", list_type="atomic")]
    type: Annotated[str, f(4, "ClusterIP, NodePort, LoadBalancer or ExternalName; ClusterIP by default.")]
    externalIPs: Annotated[
        list[str], f(5, "Addresses from outside that lead to the nodes, not managed by Kubernetes.", list_type="atomic")
    ]
    sessionAffinity: Annotated[str, f(7, "ClientIP or None; None by default.")]
    loadBalancerIP: Annotated[str, f(8, "Address wished for the load balancer; up to the provider.")]
    loadBalancerSourceRanges: Annotated[
        list[str], f(9, "CIDRs of the clients that the load balancer lets in; all by default.", list_type="atomic")
    ]
    externalName: Annotated[str, f(10, "DNS name that an ExternalName Service is an alias for.")]
    externalTrafficPolicy: Annotated[
        str,
        f(11, "Cluster, or Local to keep traffic from outside on its node and so keep the client's address; Cluster by default."),
    ]
    healthCheckNodePort: Annotated[
        Int32, f(12, "Port at which load balancers ask whether a node has pods; with the policy Local.")
    ]
    publishNotReadyAddresses: Annotated[bool, f(13, "Whether pods that are not ready count as endpoints; false by default.")]
    sessionAffinityConfig: Annotated[SessionAffinityConfig, f(14, "Settings of sessionAffinity.", pointer=True)]
    ipFamilies: Annotated[list[str], f(19, "IPv4 or IPv6, or both in order.", list_type="atomic")]
    ipFamilyPolicy: Annotated[
        str, f(17, "SingleStack, PreferDualStack or RequireDualStack; SingleStack by default.", pointer=True)
    ]
    allocateLoadBalancerNodePorts: Annotated[
        bool, f(20, "Whether a LoadBalancer Service gets node ports; true by default.", pointer=True)
    ]
    loadBalancerClass: Annotated[
        str, f(21, "Which implementation serves a LoadBalancer Service; the default one where it is not given.", pointer=True)
    ]
    internalTrafficPolicy: Annotated[
        str, f(22, "Cluster, or Local to keep traffic from pods on its node; Cluster by default.", pointer=True)
    ]
    trafficDistribution: Annotated[str, f(23, "Preference such as PreferClose: endpoints near the client first.", pointer=True)]


class PortStatus(TypedDict, total=False):
    """State of a load balancer's port."""

    port: Annotated[Required[Int32], f(1, "Number of the port.")]
    protocol: Annotated[Required[str], f(2, "TCP, UDP or SCTP.")]
    error: Annotated[str, f(3, "Why the port is not served, in one CamelCase word.", pointer=True)]


class LoadBalancerIngress(TypedDict, total=False):
    """A way into a load balancer."""

    ip: Annotated[str, f(1, "Its address.")]
    hostname: Annotated[str, f(2, "Its DNS name.")]
    ipMode: Annotated[
        str, f(3, "VIP, or Proxy where the balancer does not keep the destination address; VIP by default.", pointer=True)
    ]
    ports: Annotated[list[PortStatus], f(4, "State of its ports.", list_type="atomic")]


class LoadBalancerStatus(TypedDict, total=False):
    """State of a load balancer."""

    ingress: Annotated[list[LoadBalancerIngress], f(1, "Ways into it.", list_type="atomic")]


class ServiceStatus(TypedDict, total=False):
    """State of a Service."""

    loadBalancer: Annotated[LoadBalancerStatus, f(1, "State of the load balancer.")]
    conditions: Annotated[list[Condition], f(2, "The latest observations, one for each type.", merge_key="type", keys="type")]


class Service(KubeObject, total=False):
    """A name and a virtual address for a set of pods."""

    spec: Annotated[ServiceSpec, f(2, "What the Service offers.")]
    status: Annotated[ServiceStatus, f(3, "What has been observed; written by the system.")]


class ServiceList(KubeList, total=False):
    """A list of Services."""

    items: Annotated[Required[list[Service]], f(2, "The Services.")]


class EndpointAddress(TypedDict, total=False):
    """An address behind a Service."""

    ip: Annotated[Required[str], f(1, "The address.")]
    hostname: Annotated[str, f(3, "Host name of the endpoint.")]
    nodeName: Annotated[str, f(4, "Node that the endpoint is on.", pointer=True)]
    targetRef: Annotated[ObjectReference, f(2, "Object behind the address, mostly a Pod.", pointer=True)]


atomic(EndpointAddress)


class EndpointPort(TypedDict, total=False):
    """A port of the addresses of a subset."""

    name: Annotated[str, f(1, "Name of the Service's port.")]
    port: Annotated[Required[Int32], f(2, "Number of the port.")]
    protocol: Annotated[str, f(3, "TCP, UDP or SCTP; TCP by default.")]
    appProtocol: Annotated[str, f(4, "Application protocol; a hint.", pointer=True)]


atomic(EndpointPort)


class EndpointSubset(TypedDict, total=False):
    """Addresses that have the same ports."""

    addresses: Annotated[list[EndpointAddress], f(1, "Addresses that are ready.", list_type="atomic")]
    notReadyAddresses: Annotated[list[EndpointAddress], f(2, "Addresses that are not ready.", list_type="atomic")]
    ports: Annotated[list[EndpointPort], f(3, "Ports of all these addresses.", list_type="atomic")]


class Endpoints(KubeObject, total=False):
    """The addresses behind a Service; EndpointSlice took its place."""

    subsets: Annotated[list[EndpointSubset], f(2, "Groups of addresses with equal ports.", list_type="atomic")]


class EndpointsList(KubeList, total=False):
    """A list of Endpoints."""

    items: Annotated[Required[list[Endpoints]], f(2, "The Endpoints.")]
