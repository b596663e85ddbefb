"""`down`: ask the supervisor; where that is gone or does not answer, do by hand what is left, from what state.json says."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from kubeling.cluster import cgroups, runtime, state, userns
from kubeling.cluster.control import Control
from kubeling.cluster.state import ClusterError, Process, State

GONE_SECONDS = 10.0
#: How long processes that have lost their supervisor may take to notice.
ALONE_SECONDS = 3.0
DOWN_SECONDS = 60.0


def context_of(root: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((root / "context.json").read_bytes())
        return found
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def down(name: str) -> None:
    """Remove the cluster: processes, namespaces, cgroups, files, and its context. Raises ClusterError where there is none or something stays."""
    from kubeling.cluster import kubeconfig

    root = state.root_of(name)
    if not root.is_dir():
        raise ClusterError(f"there is no cluster {name!r}" + (f": there are {', '.join(known)}" if (known := names()) else ""))
    context = context_of(root)
    with state.locked(root):
        endpoint, uids = _foreign_pods(root)
        bring_down(root)
    if context.get("kubeconfig"):
        kubeconfig.unmerge(kubeconfig.context_name(name), Path(context["kubeconfig"]), context.get("previous", ""))
    state.remove_empty_home()
    if uids:
        try:
            runtime.remove_pods(endpoint, uids)
        except OSError as error:
            raise ClusterError(
                f"the cluster is removed, but not its pods, since the runtime does not answer ({error}): remove them with `crictl rmp -f`"
            ) from error


def names() -> list[str]:
    """The clusters of this user."""
    return [path.name for path in state.clusters()]


def _foreign_pods(root: Path) -> tuple[str, set[str]]:
    """The endpoint of a runtime that outlives the cluster, and the pods that this one has there."""
    with contextlib.suppress(ClusterError):
        found = state.load(root)
        if found is not None and found.spec.runtime != "crilite":
            return found.spec.runtime, runtime.pod_uids(root)
    return "", set()


def bring_down(root: Path, *, keep: bool = False) -> None:
    """End all that runs, and delete the files unless they are to be kept for another `up`. Raises ClusterError where something stays."""
    try:
        found = state.load(root)
    except ClusterError:
        found = None  # Damaged: the supervisor knows what it runs, and without one there are only files.
    try:
        with Control(root, DOWN_SECONDS) as control:
            supervisor = state.identify(control.call("ping")["pid"], "supervisor")
            control.call("stop" if keep else "down")
        _await_end([supervisor], GONE_SECONDS)
    except ClusterError:
        # No supervisor, or one that does not answer: by hand then.
        _bring_down_by_hand(root, found, keep=keep)
    if root.exists() and not keep:
        raise ClusterError(f"{root} could not be removed: look who still uses it, then `rm -r {root}`")


def _bring_down_by_hand(root: Path, found: State | None, *, keep: bool) -> None:
    if found is not None:
        if not keep:
            found.phase = "removing"
            with contextlib.suppress(OSError):
                state.save(root, found)  # A full disk must not be in the way of making room.
        kill_all(found)
    if keep:
        return
    if found is not None:
        if left := cgroups.remove(found.cgroup):
            raise ClusterError(f"the cgroup {left[0]} is still in use: `cat {left[0]}/cgroup.procs` shows by whom")
        if not found.spec.isolated:
            shutil.rmtree(found.run, ignore_errors=True)
    with contextlib.suppress(OSError):
        shutil.rmtree(root)
    if root.exists() and found is not None and found.user_namespace:
        # Files of users that exist only inside the user namespace, such as those of images.
        userns.run_inside(lambda: shutil.rmtree(root, ignore_errors=True))


def kill_all(found: State) -> None:
    """End what is left of a cluster whose supervisor is gone, or is to go. Raises ClusterError where something does not end."""
    supervisor = [found.supervisor] if found.supervisor else []
    _kill(supervisor)
    _await_end(supervisor, GONE_SECONDS)
    # Now they end by themselves, each taking along what it has started, which in host mode nobody else could. This is for those that hang.
    _await_end(found.processes, ALONE_SECONDS)
    _kill(found.processes)
    processes = [*supervisor, *found.processes]
    _await_end(processes, GONE_SECONDS)
    for process in processes:
        if process.alive():
            raise ClusterError(f"process {process.pid} ({process.what}) does not end: it may hang in the kernel; try again later")


def _kill(processes: Sequence[Process]) -> None:
    for process in processes:
        if process.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)


def _await_end(processes: Sequence[Process], seconds: float) -> None:
    """Return when all have ended, or after `seconds`."""
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if process.alive():
                poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(descriptor)
