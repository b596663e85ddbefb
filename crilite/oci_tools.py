"""The OCI runtimes that are installed here, and what the daemon itself has them do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kubeling.crilite import oci
from kubeling.crilite.errors import CriError
from kubeling.daemon.log import get_logger

log = get_logger("crilite.oci")

_SECONDS = 60
#: gVisor's own network does not work in a network namespace that others have furnished, and its fastest platform not everywhere.
_FLAGS = {"runsc": ["--network=host", "--platform=ptrace"]}
#: See `launch_oci`: crun wants to see no mixture of cgroup versions.
_HIDE = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


def installed() -> list[str]:
    """The handlers whose program is here. As an ordinary user of the machine none is offered."""
    return [name for name in oci.RUNTIMES if shutil.which(name)] if os.geteuid() == 0 else []


def command(handler: str) -> list[str]:
    """How it is called."""
    path = shutil.which(handler)
    if path is None:
        raise CriError(f"the runtime {handler!r} is not installed any more")
    return [path, *_FLAGS.get(handler, [])]


def state(folder: Path, handler: str) -> str:
    """Where it keeps what it knows of its containers."""
    return str(folder / "oci" / handler)


def delete(handler: str, folder: Path, container: str) -> None:
    """Have it forget the container, which has ended or is to end now. One that it does not know is forgotten."""
    root = state(folder, handler)
    if not os.path.isdir(os.path.join(root, container)) and handler != "runsc":
        return
    if shutil.which(handler) is None:
        log.warning("a container cannot be deleted: its runtime is not installed any more", runtime=handler, container=container)
        return
    words = [*command(handler), "--root", root, "delete", "--force", container]
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _HIDE, "sh", *words],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("a container cannot be deleted", runtime=handler, container=container, error=error)
        return
    if done.returncode != 0 and os.path.isdir(os.path.join(root, container)):
        log.warning("a container cannot be deleted", runtime=handler, container=container, error=done.stderr.strip())
