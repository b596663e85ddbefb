"""Paths of the node itself that are volumes of pods: hostPath, and local volumes."""

from __future__ import annotations

import stat
from pathlib import Path

from kubeling.api.meta import Object, annotations_of, spec_of

_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_OUR_PROVISIONER = "kubeling.dev/local"


class VolumeProblem(Exception):
    """A volume cannot be had; the text is that of the FailedMount event."""


def local_path(volume: Object) -> Path:
    """The directory, or the device, of a local PersistentVolume. Our own provisioner leaves it to the node to make its directories."""
    path = Path(spec_of(volume)["local"]["path"])
    if spec_of(volume).get("volumeMode") == "Block":
        return host_path(str(path), "BlockDevice")
    if annotations_of(volume).get(_PROVISIONED_BY) == _OUR_PROVISIONER and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    return host_path(str(path), "Directory")


def host_path(path: str, kind: str) -> Path:
    """Check (or make) what a hostPath volume names. VolumeProblem where it is not of its type."""
    target = Path(path)
    if kind == "DirectoryOrCreate" and not target.exists():
        target.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not target.exists():
        target.touch(0o644)
    wanted = {
        "Directory": (stat.S_ISDIR, "directory"),
        "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
        "File": (stat.S_ISREG, "file"),
        "FileOrCreate": (stat.S_ISREG, "file"),
        "Socket": (stat.S_ISSOCK, "socket file"),
        "CharDevice": (stat.S_ISCHR, "character device"),
        "BlockDevice": (stat.S_ISBLK, "block device"),
    }.get(kind)
    if wanted is not None:
        check, called = wanted
        if not target.exists() or not check(target.stat().st_mode):
            raise VolumeProblem(f"hostPath type check failed: {path} is not a {called}")
    elif not target.exists():
        # Without a type upstream leaves this to the runtime, which makes a folder.
        target.mkdir(parents=True, mode=0o755)
    return target
