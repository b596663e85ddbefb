"""From a Pod to the messages of CRI. No calls: everything that had to be looked up is passed in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeling.api.meta import Object, annotations_of, labels_of, metadata_of, namespace_of, spec_of, uid_of
from kubeling.api.pods import grace_period_of, init_containers_of, is_sidecar, limits_of, requests_of
from kubeling.kubelet import dnsconfig, podstate, security
from kubeling.kubelet.actions import container_hash
from kubeling.kubelet.devices import Grant
from kubeling.kubelet.env import expand
from kubeling.kubelet.resources import PERIOD, Limits, cpu_quota, cpu_shares, pod_cgroup
from kubeling.proto import cri_pb2 as pb

_PROTOCOLS = {"TCP": pb.TCP, "UDP": pb.UDP, "SCTP": pb.SCTP}
_PROPAGATION = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}
_PROFILES = {
    "RuntimeDefault": pb.SecurityProfile.RuntimeDefault,
    "Unconfined": pb.SecurityProfile.Unconfined,
    "Localhost": pb.SecurityProfile.Localhost,
}


@dataclass(frozen=True, slots=True)
class BindMount:
    """A file or folder of the node at a path in the container; or the files of an image, of which `image` is the runtime's name."""

    container_path: str
    host_path: str
    read_only: bool = False
    propagation: str = "None"
    image: str = ""
    #: What is mounted further down is read-only too.
    recursive: bool = False


def log_directory(root: str, pod: Object) -> str:
    """Where the pod's logs lie: names for people, the uid against namesakes."""
    return f"{root}/{namespace_of(pod)}_{metadata_of(pod)['name']}_{uid_of(pod)}"


def stop_signal(container: Mapping[str, Any]) -> int:
    """The signal that `lifecycle.stopSignal` names (`SIGRTMIN+3`); 0 leaves it to the image and the runtime."""
    name = (container.get("lifecycle") or {}).get("stopSignal") or ""
    known = dict(pb.Signal.items())
    return known.get("SIGNAL_" + name.replace("+", "PLUS").replace("-", "MINUS"), 0)


def pod_labels(pod: Object) -> dict[str, str]:
    """The labels by which the runtime's objects are found again."""
    return {
        podstate.POD_NAME: metadata_of(pod)["name"],
        podstate.POD_NAMESPACE: namespace_of(pod),
        podstate.POD_UID: uid_of(pod),
    }


def sandbox_config(pod: Object, attempt: int, *, dns: dnsconfig.DNS, logs: str, cgroup_root: str | None) -> pb.PodSandboxConfig:
    """The sandbox of a pod. `cgroup_root` None leaves the cgroup to the runtime."""
    metadata, spec = metadata_of(pod), spec_of(pod)
    host_network = bool(spec.get("hostNetwork"))
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=metadata["name"], namespace=namespace_of(pod), uid=uid_of(pod), attempt=attempt),
        # Runtimes refuse to name a host that is not theirs.
        hostname="" if host_network else dnsconfig.pod_hostname(pod),
        log_directory=log_directory(logs, pod),
        labels={**labels_of(pod), **pod_labels(pod)},
        annotations=annotations_of(pod),
    )
    if spec.get("dnsPolicy") != "Default" or dns.servers or dns.searches:
        config.dns_config.CopyFrom(pb.DNSConfig(servers=dns.servers, searches=dns.searches, options=dns.options))
    if not host_network:
        config.port_mappings.extend(_port_mappings(spec))
    linux = config.linux
    if cgroup_root is not None:
        linux.cgroup_parent = pod_cgroup(cgroup_root, pod)
    context = linux.security_context
    context.namespace_options.CopyFrom(namespace_options(pod, None))
    shared = spec.get("securityContext") or {}
    if shared.get("runAsUser") is not None:
        context.run_as_user.value = shared["runAsUser"]
    if shared.get("runAsGroup") is not None and shared.get("runAsUser") is not None:
        context.run_as_group.value = shared["runAsGroup"]
    context.supplemental_groups.extend(security.pod_groups(pod))
    context.privileged = any((each.get("securityContext") or {}).get("privileged") for each in _every(spec))
    context.seccomp.CopyFrom(_profile(security.pod_seccomp(pod)))
    for each in shared.get("sysctls") or ():
        linux.sysctls[each["name"]] = each["value"]
    overhead = spec.get("overhead") or {}
    requests, limits = requests_of(pod), limits_of(pod)
    if overhead:
        from kubeling.api import quantity

        linux.overhead.CopyFrom(
            pb.LinuxContainerResources(
                cpu_shares=cpu_shares(quantity.milli(overhead.get("cpu"))),
                cpu_quota=cpu_quota(quantity.milli(overhead.get("cpu"))),
                cpu_period=PERIOD,
                memory_limit_in_bytes=quantity.units(overhead.get("memory")),
            )
        )
    linux.resources.CopyFrom(
        pb.LinuxContainerResources(
            cpu_shares=cpu_shares(requests.get("cpu", 0)),
            cpu_quota=cpu_quota(limits.get("cpu", 0)),
            cpu_period=PERIOD,
            memory_limit_in_bytes=limits.get("memory", 0),
        )
    )
    return config


def _every(spec: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _port_mappings(spec: Mapping[str, Any]) -> list[pb.PortMapping]:
    found = []
    for each in _every(spec):
        for port in each.get("ports") or ():
            if port.get("hostPort"):
                mapping = pb.PortMapping(
                    protocol=_PROTOCOLS.get(port.get("protocol") or "TCP", pb.TCP),
                    container_port=port["containerPort"],
                    host_port=port["hostPort"],
                    host_ip=port.get("hostIP") or "",
                )
                found.append(mapping)
    return found


def namespace_options(pod: Object, target: str | None) -> pb.NamespaceOption:
    """Which namespaces are the pod's, the container's and the node's; `target` is a container's ID whose processes are shared."""
    spec = spec_of(pod)
    if spec.get("hostPID"):
        pid = pb.NODE
    elif target:
        pid = pb.TARGET
    else:
        pid = pb.POD if spec.get("shareProcessNamespace") else pb.CONTAINER
    return pb.NamespaceOption(
        network=pb.NODE if spec.get("hostNetwork") else pb.POD,
        pid=pid,
        ipc=pb.NODE if spec.get("hostIPC") else pb.POD,
        target_id=target or "",
    )


def _profile(seccomp: security.Seccomp) -> pb.SecurityProfile:
    return pb.SecurityProfile(profile_type=_PROFILES.get(seccomp.kind, pb.SecurityProfile.Unconfined), localhost_ref=seccomp.path)


def container_config(
    pod: Object,
    container: Mapping[str, Any],
    *,
    attempt: int,
    image: str,
    environment: Mapping[str, str],
    mounts: Sequence[BindMount],
    limits: Limits,
    secure: security.Security,
    target: str | None = None,
    grants: Iterable[Grant] = (),
) -> pb.ContainerConfig:
    """One container. `image` is the runtime's own name for it, `attempt` counts restarts."""
    name = container["name"]
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=name, attempt=attempt),
        image=pb.ImageSpec(image=image, user_specified_image=container.get("image") or ""),
        command=[expand(each, environment) for each in container.get("command") or ()],
        args=[expand(each, environment) for each in container.get("args") or ()],
        working_dir=container.get("workingDir") or "",
        envs=[pb.KeyValue(key=key, value=value.encode("utf-8", "surrogateescape")) for key, value in environment.items()],
        log_path=f"{name}/{attempt}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        labels={**pod_labels(pod), podstate.CONTAINER_NAME: name},
        annotations=_annotations(pod, container, attempt),
    )
    config.stop_signal = stop_signal(container)  # type: ignore[assignment]
    for each in mounts:
        config.mounts.append(
            pb.Mount(
                container_path=each.container_path,
                host_path=each.host_path,
                readonly=each.read_only,
                recursive_read_only=each.recursive,
                propagation=_PROPAGATION.get(each.propagation, pb.PROPAGATION_PRIVATE),
                image=pb.ImageSpec(image=each.image) if each.image else None,
            )
        )
    resources = config.linux.resources
    resources.cpu_shares, resources.cpu_period, resources.cpu_quota = limits.shares, limits.period, limits.quota
    resources.memory_limit_in_bytes, resources.oom_score_adj = limits.memory, limits.oom_score_adj
    resources.cpuset_cpus = limits.cpus
    _security(config.linux.security_context, pod, secure, target)
    for grant in grants:
        _grant(config, grant)
    return config


def _grant(config: pb.ContainerConfig, grant: Grant) -> None:
    """What a device plugin said that the container needs."""
    for inside, outside, permissions in grant.nodes:
        config.devices.append(pb.Device(container_path=inside, host_path=outside, permissions=permissions))
    for inside, outside, read_only in grant.mounts:
        config.mounts.append(pb.Mount(container_path=inside, host_path=outside, readonly=read_only))
    config.annotations.update(grant.annotations)
    for name in grant.cdi:
        config.CDI_devices.append(pb.CDIDevice(name=name))


def linux_resources(limits: Limits) -> pb.LinuxContainerResources:
    """For a container that is to be given other limits while it runs."""
    return pb.LinuxContainerResources(
        cpu_shares=limits.shares,
        cpu_period=limits.period,
        # 0 would leave it as it is.
        cpu_quota=limits.quota or -1,
        memory_limit_in_bytes=limits.memory,
        oom_score_adj=limits.oom_score_adj,
    )


def _annotations(pod: Object, container: Mapping[str, Any], attempt: int) -> dict[str, str]:
    lifecycle = container.get("lifecycle") or {}
    found = {
        podstate.HASH: container_hash(dict(container)),
        podstate.RESTART_COUNT: str(attempt),
        podstate.TERMINATION_PATH: container.get("terminationMessagePath") or "/dev/termination-log",
        podstate.TERMINATION_POLICY: container.get("terminationMessagePolicy") or "File",
        podstate.GRACE_PERIOD: str(grace_period_of(pod)),
    }
    if lifecycle.get("preStop"):
        found[podstate.PRE_STOP] = json.dumps(lifecycle["preStop"])
    if container.get("resources"):
        found[podstate.RESOURCES] = json.dumps(container["resources"], sort_keys=True)
    if container.get("ports"):
        found[podstate.PORTS] = json.dumps(container["ports"])
    return found


def _security(context: pb.LinuxContainerSecurityContext, pod: Object, secure: security.Security, target: str | None) -> None:
    context.namespace_options.CopyFrom(namespace_options(pod, target))
    context.privileged = secure.privileged
    context.readonly_rootfs = secure.read_only_root
    context.no_new_privs = secure.no_new_privileges
    if secure.run_as_user is not None:
        context.run_as_user.value = secure.run_as_user
    if secure.run_as_group is not None:
        context.run_as_group.value = secure.run_as_group
    context.supplemental_groups.extend(secure.supplemental_groups)
    if secure.groups_policy == "Strict":
        context.supplemental_groups_policy = pb.Strict
    context.capabilities.add_capabilities.extend(secure.add)
    context.capabilities.drop_capabilities.extend(secure.drop)
    context.masked_paths.extend(secure.masked)
    context.readonly_paths.extend(secure.read_only)
    context.seccomp.CopyFrom(_profile(secure.seccomp if not secure.privileged else security.Seccomp()))


def sidecars_of(pod: Object) -> list[dict[str, Any]]:
    """The restartable init containers, in order."""
    return [each for each in init_containers_of(pod) if is_sidecar(each)]
