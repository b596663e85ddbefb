"""Parameters of the connect subresources: exec, attach, log, port-forward and proxy."""

from __future__ import annotations

from typing import Annotated, Required

from kubeling.api.types.declare import f
from kubeling.api.types.meta_v1 import Typed
from kubeling.api.types.scalars import Int32, Int64, Time


class PodAttachOptions(Typed, total=False):
    """How to attach to a container."""

    stdin: Annotated[bool, f(1, "Connect standard input; false by default.")]
    stdout: Annotated[bool, f(2, "Connect standard output; true by default.")]
    stderr: Annotated[bool, f(3, "Connect standard error; true by default.")]
    tty: Annotated[bool, f(4, "Use a terminal; false by default.")]
    container: Annotated[str, f(5, "The container; the only one, or the annotated default, where it is not given.")]


class PodExecOptions(Typed, total=False):
    """How to run a command in a container."""

    stdin: Annotated[bool, f(1, "Connect standard input; false by default.")]
    stdout: Annotated[bool, f(2, "Connect standard output; true by default.")]
    stderr: Annotated[bool, f(3, "Connect standard error; true by default.")]
    tty: Annotated[bool, f(4, "Use a terminal; false by default.")]
    container: Annotated[str, f(5, "The container; the only one, or the annotated default, where it is not given.")]
    command: Annotated[Required[list[str]], f(6, "The command and its arguments; no shell is involved.", list_type="atomic")]


class PodLogOptions(Typed, total=False):
    """Which part of a container's log."""

    container: Annotated[str, f(1, "The container; the only one where it is not given.")]
    follow: Annotated[bool, f(2, "Go on with what is written from now on; false by default.")]
    previous: Annotated[bool, f(3, "The log of the container's last run; false by default.")]
    sinceSeconds: Annotated[Int64, f(4, "Only lines of that many last seconds; excludes sinceTime.", pointer=True)]
    sinceTime: Annotated[Time, f(5, "Only lines since then; excludes sinceSeconds.", pointer=True)]
    timestamps: Annotated[bool, f(6, "Put the time before every line; false by default.")]
    tailLines: Annotated[Int64, f(7, "Only so many last lines.", pointer=True)]
    limitBytes: Annotated[Int64, f(8, "Stop after so many bytes.", pointer=True)]
    insecureSkipTLSVerifyBackend: Annotated[bool, f(9, "Do not check the kubelet's certificate; false by default.")]
    stream: Annotated[str, f(10, "All, Stdout or Stderr; All by default.", pointer=True)]


class PodPortForwardOptions(Typed, total=False):
    """Which ports to forward."""

    ports: Annotated[list[Int32], f(1, "Ports of the pod.", list_type="atomic")]


class PodProxyOptions(Typed, total=False):
    """How to reach a pod through the API server."""

    path: Annotated[str, f(1, "Path to ask the pod for.")]


class NodeProxyOptions(Typed, total=False):
    """How to reach a node through the API server."""

    path: Annotated[str, f(1, "Path to ask the node for.")]


class ServiceProxyOptions(Typed, total=False):
    """How to reach a Service through the API server."""

    path: Annotated[str, f(1, "Path to ask the Service for.")]
