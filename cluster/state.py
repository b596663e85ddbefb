"""What a cluster leaves on disk, and how to tell whether it lives.

``$KUBELING_HOME/<name>/state.json`` (``~/.kubeling`` by default) holds the spec, the nodes and every process that was started, each with its start
time, so that a number that the kernel has given to somebody else is never mistaken for ours. The file is replaced atomically; `phase` says how far
the cluster's life had come when its last writer wrote:

``creating``  the first `up` has not finished making the files
``running``   complete: whether it really runs is asked of the supervisor's process
``stopped``   the supervisor ended in order; `up` boots the same disks again
``removing``  `down` has begun; nothing but `down` can go on from here
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubeling.cluster.groups import Membership
from kubeling.cluster.topology import ClusterSpec, Layout, Node, Topology, parse_node, spec_from_json, spec_to_json

Phase = Literal["creating", "running", "stopped", "removing"]

FILE = "state.json"


class ClusterError(Exception):
    """Something that the user can mend; the text is one line that says what is wrong and how."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the host: its number and, in clock ticks since boot, when it started."""

    pid: int
    start: int
    what: str = ""

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return process_start(self.pid) == self.start


@dataclass(slots=True)
class State:
    """The content of state.json."""

    spec: ClusterSpec
    phase: Phase = "creating"
    nodes: tuple[Node, ...] = ()
    stopped_nodes: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    cgroup: str = ""
    run: str = "/run/kubeling"
    user_namespace: bool = False
    supervisor: Process | None = None
    processes: list[Process] = field(default_factory=list)
    #: Machines of groups by the names of their nodes, and the highest number that one was given.
    machines: dict[str, Membership] = field(default_factory=dict)
    last_machine: int = 0

    def topology(self, root: Path) -> Topology:
        return Topology(self.spec, self.nodes, Layout(root, Path(self.run)), self.ports, self.cgroup, self.machines)


def home() -> Path:
    """Where the clusters of this user are."""
    chosen = os.environ.get("KUBELING_HOME")
    return Path(chosen).absolute() if chosen else Path.home() / ".kubeling"


def root_of(name: str) -> Path:
    return home() / name


def check_name(name: str) -> None:
    """Names become parts of paths, host names and contexts."""
    if not (0 < len(name) <= 40 and name[0].isalnum() and name[-1].isalnum() and all(c.isalnum() or c == "-" for c in name)):
        raise ClusterError(f"the name {name!r} cannot be used: 1 to 40 letters, digits and hyphens, no hyphen at either end")
    if name != name.lower() or not name.isascii():
        raise ClusterError(f"the name {name!r} cannot be used: small ASCII letters only")


def load(root: Path) -> State | None:
    """Read the state of the cluster in `root`; None where there is none."""
    try:
        raw = json.loads((root / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ClusterError(
            f"{root / FILE} is damaged ({error}): remove the cluster with `kubeling down --name {root.name}`"
        ) from error
    supervisor = raw.get("supervisor")
    return State(
        spec=spec_from_json(raw["spec"]),
        phase=raw["phase"],
        nodes=tuple(parse_node(name) for name in raw["nodes"]),
        stopped_nodes=list(raw.get("stopped_nodes", [])),
        ports=dict(raw.get("ports", {})),
        machines={name: Membership(**entry) for name, entry in raw.get("machines", {}).items()},
        last_machine=raw.get("last_machine", 0),
        cgroup=raw.get("cgroup", ""),
        run=raw.get("run", "/run/kubeling"),
        user_namespace=bool(raw.get("user_namespace")),
        supervisor=Process(**supervisor) if supervisor else None,
        processes=[Process(**entry) for entry in raw.get("processes", [])],
    )


def save(root: Path, state: State) -> None:
    """Replace the state file."""
    raw: dict[str, Any] = {
        "phase": state.phase,
        "spec": spec_to_json(state.spec),
        "nodes": [node.name for node in state.nodes],
        "stopped_nodes": state.stopped_nodes,
        "ports": state.ports,
        "machines": {name: asdict(each) for name, each in state.machines.items()},
        "last_machine": state.last_machine,
        "cgroup": state.cgroup,
        "run": state.run,
        "user_namespace": state.user_namespace,
        "supervisor": _process_json(state.supervisor) if state.supervisor else None,
        "processes": [_process_json(process) for process in state.processes],
    }
    fresh = root / f"{FILE}.new"
    fresh.write_text(json.dumps(raw, indent=1))
    os.replace(fresh, root / FILE)


def _process_json(process: Process) -> dict[str, Any]:
    return {"pid": process.pid, "start": process.start, "what": process.what}


def process_start(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; 0 where there is none or it is a zombie."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The name, in brackets, may hold anything; what follows the last bracket begins with the state.
    fields = raw[raw.rindex(")") + 2 :].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def host_pid(pidfd: int = -1) -> int:
    """The number by which the host knows this process, or the one behind `pidfd` (0 where that has gone).

    A supervisor and its children may live in a PID namespace of their own, where they have other numbers; the /proc that they see is the host's.
    """
    if pidfd < 0:
        return int(os.readlink("/proc/self"))
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return max(0, int(line.split()[1]))
    return 0


def identify(pid: int, what: str = "") -> Process:
    """The process `pid` as it is now; a `start` of 0 says that it has already gone."""
    return Process(pid, process_start(pid), what)


def clusters() -> list[Path]:
    """The directories of all clusters of this user, by name."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in home().iterdir() if (path / FILE).exists())
    return []


def remove_tree(root: Path) -> None:
    """Delete a cluster's directory, and the home when it was the last one in it."""
    shutil.rmtree(root, ignore_errors=False)
    remove_empty_home()


def remove_node_files(layout: Layout, node: str) -> None:
    """Delete a node's disk, certificates and kubeconfigs; its logs stay for whoever wants to know."""
    shutil.rmtree(layout.node(node), ignore_errors=True)
    # In host mode what a runtime keeps while it runs outlives it; elsewhere it went with the node's own /run.
    shutil.rmtree(layout.run / f"{node}-crilite", ignore_errors=True)
    (layout.run / f"{node}.sock").unlink(missing_ok=True)
    for path in (*layout.pki.glob(f"kubelet-{node}.*"), *layout.kubeconfig("x").parent.glob(f"{node}-*.conf")):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One `up` or `down` at a time for each cluster. The directory is made for the lock where it is not there."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ClusterError(
            f"{root} cannot be made ({error.strerror}): set KUBELING_HOME to a directory that you may write to"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ClusterError(f"another `kubeling` is bringing {root.name!r} up or down at this moment: wait for it") from error
    except BaseException:
        with contextlib.suppress(OSError):
            root.rmdir()  # Only where it is empty: we have made it for nothing.
            remove_empty_home()
        raise
    finally:
        os.close(descriptor)


def remove_empty_home() -> None:
    with contextlib.suppress(OSError):
        home().rmdir()
