"""A sandbox's namespaces without a process to hold them: each is made by a short-lived thread and pinned by a bind mount of its file.

A thread may leave its network, IPC and UTS namespaces alone (unlike its mount namespace, which Python's threads share), so this needs no fork,
and it costs no memory for as long as the pod lives.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping

from kubeling.linux import syscalls

_KINDS = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}


def pin(
    folder: str,
    kinds: list[str],
    hostname: str,
    sysctls: Mapping[str, str],
    in_network: Callable[[], None],
    *,
    pinned: bool = False,
) -> None:
    """Make new namespaces of `kinds` (net, ipc, uts), set them up, call `in_network` in a new network namespace, and leave each at ``<folder>/<kind>``.

    With `pinned` they are there already, and are only set up.
    """
    failure: list[BaseException] = []

    def body() -> None:
        try:
            flags = 0
            for kind in kinds:
                if pinned:
                    syscalls.setns_path(os.path.join(folder, kind), _KINDS[kind])
                else:
                    flags |= _KINDS[kind]
            if flags:
                syscalls.unshare(flags)
            for kind in [] if pinned else kinds:
                path = os.path.join(folder, kind)
                os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
                syscalls.mount(f"/proc/thread-self/ns/{kind}", path, "", syscalls.MS_BIND)
            if "uts" in kinds and hostname:
                syscalls.sethostname(hostname)
            for name, value in sysctls.items():
                with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                    file.write(value)
            if "net" in kinds:
                in_network()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="namespaces")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def unpin(folder: str) -> None:
    """Take away every pin in `folder`, and the shared memory beside them. Nothing that is missing is an error."""
    for name in (*_KINDS, "user", "shm"):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            while True:
                syscalls.umount(path, syscalls.MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(path) if name == "shm" else os.unlink(path)


def is_pinned(path: str) -> bool:
    """Whether a namespace is really there: after a reboot of the node the file is an ordinary one."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False
