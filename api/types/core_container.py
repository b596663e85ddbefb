"""What runs in a pod: containers with their environment, probes, hooks and security."""

from __future__ import annotations

from typing import Annotated, Required, TypedDict

from kubeling.api.types.core_reference import LocalObjectReference, ResourceRequirements
from kubeling.api.types.core_volume import ObjectFieldSelector, ResourceFieldSelector, VolumeDevice, VolumeMount
from kubeling.api.types.declare import atomic, f, inline
from kubeling.api.types.scalars import Int32, Int64, IntOrString


class ContainerPort(TypedDict, total=False):
    """A port on which a container listens."""

    name: Annotated[str, f(1, "Name by which Services refer to the port; unique in the pod.")]
    hostPort: Annotated[Int32, f(2, "Port of the node that leads here; none by default.")]
    containerPort: Annotated[Required[Int32], f(3, "Port in the container, 1 to 65535.")]
    protocol: Annotated[str, f(4, "TCP, UDP or SCTP; TCP by default.", default="TCP")]
    hostIP: Annotated[str, f(5, "Address of the node that the host port is bound to.")]


class ConfigMapEnvSource(LocalObjectReference, total=False):
    """A ConfigMap whose keys all become variables."""

    optional: Annotated[
        bool, f(2, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(ConfigMapEnvSource, LocalObjectReference, "localObjectReference", 1)


class SecretEnvSource(LocalObjectReference, total=False):
    """A Secret whose keys all become variables."""

    optional: Annotated[
        bool, f(2, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(SecretEnvSource, LocalObjectReference, "localObjectReference", 1)


class EnvFromSource(TypedDict, total=False):
    """A source that sets many variables at once."""

    prefix: Annotated[str, f(1, "Put before every key.")]
    configMapRef: Annotated[ConfigMapEnvSource, f(2, "The ConfigMap.", pointer=True)]
    secretRef: Annotated[SecretEnvSource, f(3, "The Secret.", pointer=True)]


class ConfigMapKeySelector(LocalObjectReference, total=False):
    """A key of a ConfigMap."""

    key: Annotated[Required[str], f(2, "The key.")]
    optional: Annotated[
        bool, f(3, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(ConfigMapKeySelector, LocalObjectReference, "localObjectReference", 1)

atomic(ConfigMapKeySelector)


class SecretKeySelector(LocalObjectReference, total=False):
    """A key of a Secret."""

    key: Annotated[Required[str], f(2, "The key.")]
    optional: Annotated[
        bool, f(3, "Whether it is fine for the source, or one of its keys, to be missing; false by default.", pointer=True)
    ]


inline(SecretKeySelector, LocalObjectReference, "localObjectReference", 1)

atomic(SecretKeySelector)


class EnvVarSource(TypedDict, total=False):
    """Where a variable's value comes from; exactly one member is set."""

    fieldRef: Annotated[
        ObjectFieldSelector, f(1, "Field of the pod, such as metadata.name, spec.nodeName or status.podIP.", pointer=True)
    ]
    resourceFieldRef: Annotated[ResourceFieldSelector, f(2, "Request or limit of a container.", pointer=True)]
    configMapKeyRef: Annotated[ConfigMapKeySelector, f(3, "Key of a ConfigMap.", pointer=True)]
    secretKeyRef: Annotated[SecretKeySelector, f(4, "Key of a Secret.", pointer=True)]


class EnvVar(TypedDict, total=False):
    """An environment variable."""

    name: Annotated[Required[str], f(1, "Name of the variable.")]
    value: Annotated[str, f(2, "The value; $(NAME) stands for earlier variables and $$ for a dollar sign.")]
    valueFrom: Annotated[EnvVarSource, f(3, "Where the value comes from, instead of value.", pointer=True)]


class HTTPHeader(TypedDict, total=False):
    """A header of an HTTP request."""

    name: Annotated[Required[str], f(1, "Name of the header.")]
    value: Annotated[Required[str], f(2, "Its value.")]


class HTTPGetAction(TypedDict, total=False):
    """An HTTP GET; 200 to 399 is success."""

    path: Annotated[str, f(1, "Path to ask for; / by default.")]
    port: Annotated[Required[IntOrString], f(2, "Number of the port, or its name in the container.")]
    host: Annotated[str, f(3, "Host to connect to; the pod's address by default.")]
    scheme: Annotated[str, f(4, "HTTP or HTTPS; HTTP by default.")]
    httpHeaders: Annotated[list[HTTPHeader], f(5, "Headers to send.", list_type="atomic")]


class TCPSocketAction(TypedDict, total=False):
    """A TCP connection; success when it opens."""

    port: Annotated[Required[IntOrString], f(1, "Number of the port, or its name in the container.")]
    host: Annotated[str, f(2, "Host to connect to; the pod's address by default.")]


class GRPCAction(TypedDict, total=False):
    """A call to the gRPC health service."""

    port: Annotated[Required[Int32], f(1, "Number of the port.")]
    service: Annotated[str, f(2, "Service name in the request; empty by default.", pointer=True, default="")]


class ExecAction(TypedDict, total=False):
    """A command run in the container; exit code 0 is success."""

    command: Annotated[list[str], f(1, "The command and its arguments; no shell is involved.", list_type="atomic")]


class SleepAction(TypedDict, total=False):
    """A pause."""

    seconds: Annotated[Required[Int64], f(1, "How long.")]


class ProbeHandler(TypedDict, total=False):
    """What a probe does; exactly one member is set."""

    exec: Annotated[ExecAction, f(1, "Run a command in the container.", pointer=True)]
    httpGet: Annotated[HTTPGetAction, f(2, "Send an HTTP GET.", pointer=True)]
    tcpSocket: Annotated[TCPSocketAction, f(3, "Open a TCP connection.", pointer=True)]
    grpc: Annotated[GRPCAction, f(4, "Call the gRPC health service.", pointer=True)]


class Probe(ProbeHandler, total=False):
    """A check that the kubelet repeats."""

    initialDelaySeconds: Annotated[Int32, f(2, "Seconds after the container's start until the first check; 0 by default.")]
    timeoutSeconds: Annotated[Int32, f(3, "Seconds until a check counts as failed; 1 by default.")]
    periodSeconds: Annotated[Int32, f(4, "Seconds between checks; 10 by default.")]
    successThreshold: Annotated[Int32, f(5, "Successes in a row after a failure that count as healthy; 1 by default.")]
    failureThreshold: Annotated[Int32, f(6, "Failures in a row that count as unhealthy; 3 by default.")]
    terminationGracePeriodSeconds: Annotated[
        Int64, f(7, "Grace for the stop when this probe fails; the pod's by default.", pointer=True)
    ]


inline(Probe, ProbeHandler, "handler", 1)


class LifecycleHandler(TypedDict, total=False):
    """What a hook does; exactly one member is set."""

    exec: Annotated[ExecAction, f(1, "Run a command in the container.", pointer=True)]
    httpGet: Annotated[HTTPGetAction, f(2, "Send an HTTP GET.", pointer=True)]
    tcpSocket: Annotated[TCPSocketAction, f(3, "Not supported; kept for old objects.", pointer=True)]
    sleep: Annotated[SleepAction, f(4, "Pause.", pointer=True)]


class Lifecycle(TypedDict, total=False):
    """Hooks around a container's life."""

    postStart: Annotated[
        LifecycleHandler, f(1, "Runs right after the start; if it fails the container is stopped.", pointer=True)
    ]
    preStop: Annotated[LifecycleHandler, f(2, "Runs before the stop, within the grace period.", pointer=True)]
    stopSignal: Annotated[str, f(3, "Signal that stops the container; the image's, else SIGTERM, by default.", pointer=True)]


class Capabilities(TypedDict, total=False):
    """POSIX capabilities added to and taken from the runtime's default."""

    add: Annotated[list[str], f(1, "Capabilities to add.", list_type="atomic")]
    drop: Annotated[list[str], f(2, "Capabilities to take away.", list_type="atomic")]


class SELinuxOptions(TypedDict, total=False):
    """SELinux context."""

    user: Annotated[str, f(1, "User part of the context.")]
    role: Annotated[str, f(2, "Role part of the context.")]
    type: Annotated[str, f(3, "Type part of the context.")]
    level: Annotated[str, f(4, "Level part of the context.")]


class WindowsSecurityContextOptions(TypedDict, total=False):
    """Security settings of Windows containers."""

    gmsaCredentialSpecName: Annotated[str, f(1, "Name of the GMSA credential spec.", pointer=True)]
    gmsaCredentialSpec: Annotated[str, f(2, "The GMSA credential spec itself.", pointer=True)]
    runAsUserName: Annotated[str, f(3, "User that the process runs as; the image's by default.", pointer=True)]
    hostProcess: Annotated[bool, f(4, "Whether containers run as host processes; all of a pod or none.", pointer=True)]


class SeccompProfile(TypedDict, total=False):
    """Which system calls are allowed."""

    type: Annotated[Required[str], f(1, "Localhost, RuntimeDefault or Unconfined.")]
    localhostProfile: Annotated[
        str, f(2, "Path of the profile on the node, beneath the kubelet's directory; only with Localhost.", pointer=True)
    ]


class AppArmorProfile(TypedDict, total=False):
    """Which AppArmor profile confines the process."""

    type: Annotated[Required[str], f(1, "Localhost, RuntimeDefault or Unconfined.")]
    localhostProfile: Annotated[str, f(2, "Name of a profile loaded on the node; only with Localhost.", pointer=True)]


class SecurityContext(TypedDict, total=False):
    """Security of one container; wins over the pod's."""

    capabilities: Annotated[Capabilities, f(1, "Capabilities to add or drop.", pointer=True)]
    privileged: Annotated[bool, f(2, "Give the process all that root on the node has; false by default.", pointer=True)]
    seLinuxOptions: Annotated[SELinuxOptions, f(3, "SELinux context; the runtime picks one by default.", pointer=True)]
    windowsOptions: Annotated[WindowsSecurityContextOptions, f(10, "Settings for Windows.", pointer=True)]
    runAsUser: Annotated[Int64, f(4, "User ID of the process; the image's by default.", pointer=True)]
    runAsGroup: Annotated[Int64, f(8, "Group ID of the process; the runtime's by default.", pointer=True)]
    runAsNonRoot: Annotated[bool, f(5, "Refuse to start the container as user 0.", pointer=True)]
    readOnlyRootFilesystem: Annotated[bool, f(6, "Mount the root file system for reading only; false by default.", pointer=True)]
    allowPrivilegeEscalation: Annotated[
        bool, f(7, "Whether the process may gain more rights than its parent; true by default.", pointer=True)
    ]
    procMount: Annotated[str, f(9, "Default or Unmasked view of /proc.", pointer=True)]
    seccompProfile: Annotated[SeccompProfile, f(11, "Which system calls are allowed.", pointer=True)]
    appArmorProfile: Annotated[AppArmorProfile, f(12, "Which AppArmor profile applies.", pointer=True)]


class ContainerResizePolicy(TypedDict, total=False):
    """What a change of a resource does to a running container."""

    resourceName: Annotated[Required[str], f(1, "cpu or memory.")]
    restartPolicy: Annotated[Required[str], f(2, "NotRequired or RestartContainer; NotRequired by default.")]


class Container(TypedDict, total=False):
    """A process in a pod, with its image and surroundings."""

    name: Annotated[Required[str], f(1, "Name of the container, unique in the pod; cannot be changed.")]
    image: Annotated[str, f(2, "Image to run.")]
    command: Annotated[
        list[str], f(3, "Replaces the image's entry point; $(NAME) stands for environment variables.", list_type="atomic")
    ]
    args: Annotated[
        list[str], f(4, "Replaces the image's arguments; $(NAME) stands for environment variables.", list_type="atomic")
    ]
    workingDir: Annotated[str, f(5, "Working directory; the image's by default.")]
    ports: Annotated[
        list[ContainerPort],
        f(
            6,
            "Ports on which the container listens; for information and for names.",
            merge_key="containerPort",
            keys="containerPort protocol",
        ),
    ]
    envFrom: Annotated[
        list[EnvFromSource],
        f(19, "Sources that set many variables at once; later ones win, env wins over all.", list_type="atomic"),
    ]
    env: Annotated[list[EnvVar], f(7, "Environment variables.", merge_key="name", keys="name")]
    resources: Annotated[ResourceRequirements, f(8, "What the container may use, and what is set aside for it.")]
    resizePolicy: Annotated[
        list[ContainerResizePolicy], f(23, "What a change of a resource does to the running container.", list_type="atomic")
    ]
    restartPolicy: Annotated[
        str, f(24, "Always makes an init container a sidecar; elsewhere the pod's policy counts.", pointer=True)
    ]
    volumeMounts: Annotated[list[VolumeMount], f(9, "Where the pod's volumes are seen.", merge_key="mountPath", keys="mountPath")]
    volumeDevices: Annotated[
        list[VolumeDevice], f(21, "Where the pod's block volumes are seen.", merge_key="devicePath", keys="devicePath")
    ]
    livenessProbe: Annotated[Probe, f(10, "Restarts the container when it fails.", pointer=True)]
    readinessProbe: Annotated[Probe, f(11, "Takes the pod out of its Services when it fails.", pointer=True)]
    startupProbe: Annotated[
        Probe, f(22, "Holds back the other probes until it succeeds; restarts the container when it fails.", pointer=True)
    ]
    lifecycle: Annotated[Lifecycle, f(12, "Hooks after the start and before the stop.", pointer=True)]
    terminationMessagePath: Annotated[
        str, f(13, "File whose content becomes the termination message; /dev/termination-log by default.")
    ]
    terminationMessagePolicy: Annotated[str, f(20, "File, or FallbackToLogsOnError for the end of the log; File by default.")]
    imagePullPolicy: Annotated[str, f(14, "Always, Never or IfNotPresent; Always for the tag latest, else IfNotPresent.")]
    securityContext: Annotated[SecurityContext, f(15, "Security settings of this container.", pointer=True)]
    stdin: Annotated[bool, f(16, "Keep standard input open; false by default.")]
    stdinOnce: Annotated[bool, f(17, "Close standard input after the first attached client leaves; false by default.")]
    tty: Annotated[bool, f(18, "Give the process a terminal; needs stdin; false by default.")]


class EphemeralContainerCommon(TypedDict, total=False):
    """What an ephemeral container has in common with others."""

    name: Annotated[Required[str], f(1, "Name of the container, unique in the pod; cannot be changed.")]
    image: Annotated[str, f(2, "Image to run.")]
    command: Annotated[
        list[str], f(3, "Replaces the image's entry point; $(NAME) stands for environment variables.", list_type="atomic")
    ]
    args: Annotated[
        list[str], f(4, "Replaces the image's arguments; $(NAME) stands for environment variables.", list_type="atomic")
    ]
    workingDir: Annotated[str, f(5, "Working directory; the image's by default.")]
    ports: Annotated[
        list[ContainerPort],
        f(
            6,
            "Ports on which the container listens; for information and for names.",
            merge_key="containerPort",
            keys="containerPort protocol",
        ),
    ]
    envFrom: Annotated[
        list[EnvFromSource],
        f(19, "Sources that set many variables at once; later ones win, env wins over all.", list_type="atomic"),
    ]
    env: Annotated[list[EnvVar], f(7, "Environment variables.", merge_key="name", keys="name")]
    resources: Annotated[ResourceRequirements, f(8, "What the container may use, and what is set aside for it.")]
    resizePolicy: Annotated[
        list[ContainerResizePolicy], f(23, "What a change of a resource does to the running container.", list_type="atomic")
    ]
    restartPolicy: Annotated[
        str, f(24, "Always makes an init container a sidecar; elsewhere the pod's policy counts.", pointer=True)
    ]
    volumeMounts: Annotated[list[VolumeMount], f(9, "Where the pod's volumes are seen.", merge_key="mountPath", keys="mountPath")]
    volumeDevices: Annotated[
        list[VolumeDevice], f(21, "Where the pod's block volumes are seen.", merge_key="devicePath", keys="devicePath")
    ]
    livenessProbe: Annotated[Probe, f(10, "Restarts the container when it fails.", pointer=True)]
    readinessProbe: Annotated[Probe, f(11, "Takes the pod out of its Services when it fails.", pointer=True)]
    startupProbe: Annotated[
        Probe, f(22, "Holds back the other probes until it succeeds; restarts the container when it fails.", pointer=True)
    ]
    lifecycle: Annotated[Lifecycle, f(12, "Hooks after the start and before the stop.", pointer=True)]
    terminationMessagePath: Annotated[
        str, f(13, "File whose content becomes the termination message; /dev/termination-log by default.")
    ]
    terminationMessagePolicy: Annotated[str, f(20, "File, or FallbackToLogsOnError for the end of the log; File by default.")]
    imagePullPolicy: Annotated[str, f(14, "Always, Never or IfNotPresent; Always for the tag latest, else IfNotPresent.")]
    securityContext: Annotated[SecurityContext, f(15, "Security settings of this container.", pointer=True)]
    stdin: Annotated[bool, f(16, "Keep standard input open; false by default.")]
    stdinOnce: Annotated[bool, f(17, "Close standard input after the first attached client leaves; false by default.")]
    tty: Annotated[bool, f(18, "Give the process a terminal; needs stdin; false by default.")]


class EphemeralContainer(EphemeralContainerCommon, total=False):
    """A container added to a running pod, for debugging."""

    targetContainerName: Annotated[str, f(2, "Container whose process namespace is shared.")]


inline(EphemeralContainer, EphemeralContainerCommon, "ephemeralContainerCommon", 1)
