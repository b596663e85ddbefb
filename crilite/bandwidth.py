"""Bandwidth limits of the built-in network: a token bucket at the node's end of the pod's link, where the pod cannot get at it.

What the pod receives leaves the node by that link and is shaped there. What it sends comes in by it, and what comes in cannot be shaped: it is led
through an `ifb` device, which it leaves again. That device does not go with the link, and so has to be cleared away.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable

from kubeling.crilite.attachment import Attachment
from kubeling.crilite.errors import CriError
from kubeling.linux import netlink

_PREFIX = "bw"
_SECONDS = 30


def shape(one: Attachment, link: str) -> None:
    """Hold the pod behind `link` to its limits."""
    if one.ingress:
        _tc("qdisc", "add", "dev", link, "root", *_bucket(one.ingress))
    if one.egress:
        device = device_name(one.id)
        _run("ip", "link", "add", device, "type", "ifb")
        _run("ip", "link", "set", device, "up")
        _tc("qdisc", "add", "dev", device, "root", *_bucket(one.egress))
        _tc("qdisc", "add", "dev", link, "handle", "ffff:", "ingress")
        everything = ("protocol", "all", "u32", "match", "u32", "0", "0")
        _tc("filter", "add", "dev", link, "parent", "ffff:", *everything, "action", "mirred", "egress", "redirect", "dev", device)


def release(name: str) -> None:
    """Nothing that is missing is an error."""
    with netlink.Netlink() as link:
        link.delete_link(device_name(name))


def retain(those: Iterable[Attachment]) -> None:
    """Remove the devices of all but `those`."""
    wanted = {device_name(one.id) for one in those}
    for device in [name for name in os.listdir("/proc/sys/net/ipv4/conf") if name.startswith(_PREFIX) and len(name) == 14]:
        if device not in wanted:
            with netlink.Netlink() as link:
                link.delete_link(device)


def device_name(sandbox: str) -> str:
    return _PREFIX + hashlib.sha256(sandbox.encode()).hexdigest()[:12]


def _bucket(rate: int) -> tuple[str, ...]:
    # A bucket for a tenth of a second, and never less than the largest packet that segmentation offload hands over.
    return ("tbf", "rate", f"{rate}bit", "burst", str(max(65536, rate // 80)), "latency", "25ms")


def _tc(*words: str) -> None:
    _run("tc", *words)


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CriError(f"bandwidth limits cannot be set: {error}") from error
    if done.returncode != 0:
        raise CriError(f"bandwidth limits cannot be set: {' '.join(words)}: {done.stderr.strip()}")
