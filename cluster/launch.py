"""`up` as a function: what the command line, the tests and the pytest plugin call.

It does what can be checked before it changes anything (names, rights, ports), then starts the supervisor and makes the certificates while the supervisor makes
the nodes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from kubeling.cluster import cgroups, child, extra, families, removal, state, uplink, userns
from kubeling.cluster.control import Control
from kubeling.cluster.state import ClusterError, State
from kubeling.cluster.topology import LOOPBACK_SLOTS, MAX_HOLLOW, MAX_WORKERS, ClusterSpec, Topology, missing_ports, nodes_for
from kubeling.linux import syscalls

Tell = Callable[[dict[str, Any]], None]


def up(
    spec: ClusterSpec,
    tell: Tell = lambda _: None,
    *,
    wait: bool = True,
    merge: bool = True,
    owner: int = 0,
    timeout: float = 120.0,
    hollow_config: Path | None = None,
) -> Path:
    """Bring the cluster up, a new one or one whose disks are there. Returns its directory. `tell` gets every step. Raises ClusterError."""
    state.check_name(spec.name)
    _check_spec(spec)
    if hollow_config is not None:
        _check_hollow(spec, hollow_config)
        spec = replace(spec, hollow_configured=True)
    root = state.root_of(spec.name)
    with state.locked(root):
        found = _existing(root)
        userns.check(spec.network if found is None else found.spec.network)
        fresh = found is None
        if found is not None:
            tell(
                {"step": f"found on disk with {len(found.nodes)} nodes: booting it again as it was", "seconds": 0.0, "mark": "✓"}
            )
        if found is None:
            found = State(spec, nodes=nodes_for(spec), user_namespace=userns.needed(spec.network))
        try:
            reservation, slot = _reserve(root, found)
            _prepare(root, found, fresh=fresh)
            if fresh:
                if hollow_config is not None:
                    shutil.copyfile(hollow_config, found.topology(root).layout.hollow_config)
                extra.copy(spec.extra, found.topology(root).layout)
            control = _start(root, found, reservation, slot, owner, timeout + 10)
        except BaseException:
            if fresh:
                shutil.rmtree(root, ignore_errors=True)
                state.remove_empty_home()
            raise
    with control:
        began = time.monotonic()
        try:
            make_identities(found.topology(root))
            tell({"step": "certificates and kubeconfigs", "seconds": time.monotonic() - began, "mark": "✓"})
            control.call("go")
        except BaseException:
            # Nothing of it can be used yet, and nobody has to clear it away by hand.
            with state.locked(root):
                removal.bring_down(root, keep=not fresh)
            raise
        if merge:
            merge_context(found.topology(root))
        if wait:
            for message in control.messages("wait", timeout=timeout):
                if "step" in message:
                    tell(message)
    return root


def ip_families(text: str) -> tuple[str, ...]:
    """What `--ip-families` says. Raises ClusterError."""
    try:
        return families.parse(text)
    except ValueError as error:
        raise ClusterError(f"--ip-families={error}") from error


def with_uplink(spec: ClusterSpec, text: str) -> ClusterSpec:
    """The spec with what `--uplink` says, complete. Raises ClusterError."""
    if not text:
        return spec
    if spec.network != "netns":
        raise ClusterError("--uplink needs --network=netns: with --network=host nodes have the host's network anyway")
    try:
        found = uplink.complete(uplink.parse(text), root=os.geteuid() == 0)
    except ValueError as error:
        raise ClusterError(f"--uplink: {error}") from error
    return replace(spec, uplink=str(found))


def with_node_config(spec: ClusterSpec, path: Path | None) -> ClusterSpec:
    """The spec with what `--node-config` says. Raises ClusterError."""
    if path is None:
        return spec
    from kubeling.cluster import nodeconfig

    try:
        flags, kubelet = nodeconfig.load(path)
    except nodeconfig.NodeConfigError as error:
        raise ClusterError(f"--node-config: {error}") from error
    if flags and spec.runtime != "crilite":
        raise ClusterError(f"--node-config: crilite: --runtime={spec.runtime} is another runtime, and has its own configuration")
    return replace(spec, runtime_flags=flags, kubelet_config=kubelet)


def with_groups(spec: ClusterSpec, text: str) -> ClusterSpec:
    """The spec with what `--autoscale` says. Raises ClusterError."""
    if not text:
        return spec
    from kubeling.cluster import groups

    try:
        found, flags = groups.load(text)
    except groups.GroupError as error:
        raise ClusterError(f"--autoscale: {error}") from error
    if flags:
        problem = extra.ask("cloud", [f"--{name}={value}" for name, value in flags.items()], environment())
        if problem:
            raise ClusterError(f"--autoscale: the flags under `autoscaler`: {problem}")
    return replace(spec, groups=found, autoscaler=flags)


def with_extra(spec: ClusterSpec, words: Sequence[str]) -> ClusterSpec:
    """The spec with what `--extra-config` says. Raises ClusterError."""
    try:
        found = extra.parse(words)
        extra.check(found, environment())
    except extra.ExtraConfigError as error:
        raise ClusterError(f"--extra-config: {error}") from error
    return replace(spec, extra=found)


def _check_spec(spec: ClusterSpec) -> None:
    if spec.control_planes not in (1, 3):
        raise ClusterError(
            f"--control-planes={spec.control_planes}: 1 or 3, since a store of any other size is no safer than the next smaller"
        )
    if not 0 <= spec.workers <= MAX_WORKERS:
        raise ClusterError(f"--workers={spec.workers}: 0 to {MAX_WORKERS}")
    if spec.network == "host" and spec.ip_families != (families.IPV4.name,):
        raise ClusterError(
            "--network=host knows IPv4 only: there pods and Services have loopback addresses, of which IPv6 has one"
        )
    if spec.network not in ("netns", "host"):
        raise ClusterError(f"--network={spec.network}: netns or host")
    if spec.runtime != "crilite" and not spec.runtime.startswith("unix:///"):
        raise ClusterError(f"--runtime={spec.runtime}: crilite, or the socket of a CRI runtime as unix:///path")
    if spec.runtime != "crilite" and not Path(spec.runtime.removeprefix("unix://")).is_socket():
        raise ClusterError(f"--runtime={spec.runtime}: there is no socket; is the runtime running?")
    if spec.static_pods and (spec.network != "netns" or spec.runtime != "crilite"):
        raise ClusterError(
            "--static-pods needs --network=netns and --runtime=crilite: their pods are of the image that crilite has built in"
        )
    if not 0 <= spec.hollow_nodes <= MAX_HOLLOW:
        raise ClusterError(f"--hollow-nodes={spec.hollow_nodes}: 0 to {MAX_HOLLOW}")
    if not 0 <= spec.api_port < 65536:
        raise ClusterError(f"--api-port={spec.api_port}: 1 to 65535, or 0 for a free one")


def _check_hollow(spec: ClusterSpec, config: Path) -> None:
    """Have the file read by who will use it: later its mistakes would only stand in a log."""
    if not spec.hollow_nodes:
        raise ClusterError("--hollow-config needs --hollow-nodes=N")
    argv = [
        sys.executable,
        "-P",
        "-m",
        "kubeling.kubelet.hollow",
        "--validate",
        f"--config={config}",
        f"--nodes={spec.hollow_nodes}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ClusterError(
            (done.stderr.strip().splitlines() or ["the file of hollow nodes cannot be read"])[-1].removeprefix("error: ")
        )


def _existing(root: Path) -> State | None:
    """The state of a cluster that may be booted again; None where there is nothing. Raises ClusterError for everything in between."""
    found = state.load(root)
    remedy = f"`kubeling down --name {root.name}` removes what is left"
    if found is None:
        if any(root.iterdir()):
            raise ClusterError(f"an older cluster {root.name!r} was only half removed ({root} holds files): {remedy}")
        return None
    if found.supervisor is not None and found.supervisor.alive():
        raise ClusterError(
            f"a cluster {root.name!r} runs already (supervisor {found.supervisor.pid}): use it, or `kubeling down --name {root.name}`, "
            "or choose another --name"
        )
    if found.phase == "creating":
        raise ClusterError(f"an earlier `up` of {root.name!r} was broken off: {remedy}")
    if found.phase == "removing":
        raise ClusterError(f"an older cluster {root.name!r} was only half removed: {remedy}")
    removal.kill_all(found)
    return found


def _reserve(root: Path, found: State) -> tuple[socket.socket, socket.socket]:
    """Take the port of the API and a slot of loopback addresses; both are written into `found`."""
    slot, number = _slot(root, found.spec.loopback if found.phase != "creating" else 0)
    try:
        reservation = _reserve_port(found.spec.api_port)
    except OSError as error:
        slot.close()
        if error.errno == errno.EADDRINUSE:
            raise ClusterError(
                f"port {found.spec.api_port} of 127.0.0.1 is in use (`ss -ltnp 'sport = :{found.spec.api_port}'` shows by whom): choose another --api-port"
            ) from error
        raise ClusterError(f"port {found.spec.api_port} of 127.0.0.1 cannot be used: {error.strerror}") from error
    found.spec = replace(found.spec, api_port=reservation.getsockname()[1], loopback=number)
    return reservation, slot


def _reserve_port(port: int) -> socket.socket:
    """A socket that is bound but does not listen: nobody else gets the port, and connections are refused while no apiserver runs."""
    with socket.socket() as trial:
        # Without SO_REUSEPORT this fails where anybody at all has the port; with SO_REUSEADDR it does not mind connections that linger.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(("127.0.0.1", port))
        chosen = trial.getsockname()[1]
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", chosen))
    return sock


def _slot(root: Path, wanted: int) -> tuple[socket.socket, int]:
    """A /16 of loopback addresses that no cluster of this host has, whoever it belongs to: the abstract name of a socket stands for each."""
    start = wanted - LOOPBACK_SLOTS.start if wanted else zlib.crc32(str(root).encode())
    for step in range(len(LOOPBACK_SLOTS)):
        number = LOOPBACK_SLOTS[(start + step) % len(LOOPBACK_SLOTS)]
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(f"\0kubeling/loopback/{number}")
            return sock, number
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise ClusterError(f"{len(LOOPBACK_SLOTS)} clusters run on this host already: `kubeling down` one of them")


def _prepare(root: Path, found: State, *, fresh: bool) -> None:
    """Make the directory, and what the topology needs to be complete."""
    if fresh:
        for name in ("pki", "kubeconfig", "logs", "nodes"):
            (root / name).mkdir(mode=0o700, exist_ok=True)
        cgroup = f"/kubeling/{root.name}-{secrets.token_hex(3)}"
        if cgroups.create(cgroup):
            found.cgroup = cgroup
    if found.cgroup:
        for node in found.nodes:
            cgroups.create(f"{found.cgroup}/{node.name}")
    if not found.spec.isolated:
        found.run = f"/tmp/kubeling-{os.getuid()}-{zlib.crc32(str(root).encode()):08x}"
        Path(found.run).mkdir(mode=0o700, exist_ok=True)
        if Path(found.run).stat().st_uid != os.getuid():
            raise ClusterError(f"{found.run} belongs to somebody else: remove it")
    if found.spec.uplink:
        text = uplink.resolv_conf(uplink.parse(found.spec.uplink), found.spec.families)
        found.topology(root).layout.resolv_conf.write_text(text)
    found.ports.update(free_ports(missing_ports(found.spec, found.nodes, found.ports)))
    found.processes, found.supervisor = [], None
    state.save(root, found)


def free_ports(keys: Sequence[str]) -> dict[str, int]:
    """A free port of 127.0.0.1 for each of `keys`, all different."""
    with contextlib.ExitStack() as held:
        ports = {}
        for key in keys:
            sock = held.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports[key] = sock.getsockname()[1]
        return ports


def make_identities(topology: Topology) -> None:
    """Certificates and kubeconfigs, of which what is there already stays, and the rights of our daemons."""
    from kubeling.cluster import kubeconfig, pki, rbac

    kubeconfig.write_all(topology, pki.ensure(topology))
    rbac.write(topology.layout.rbac, hollow=topology.spec.hollow_nodes > 0)


# -- the supervisor's process -----------------------------------------------------------------------------------------------------------


def _start(root: Path, found: State, reservation: socket.socket, slot: socket.socket, owner: int, timeout: float) -> Control:
    """Start the supervisor, detached, and return the control connection to it."""
    ours, theirs = socket.socketpair()
    keep = {"reservation": reservation.fileno(), "slot": slot.fileno(), "up": theirs.fileno()}
    if owner:
        try:
            keep["owner"] = os.pidfd_open(owner)
        except ProcessLookupError as error:
            raise ClusterError(f"--owner={owner}: there is no such process") from error
    # -P: not the directory that the user happens to be in, which may hold a `grpc.py`.
    argv = [sys.executable, "-P", "-m", "kubeling.cluster.supervisor", f"--root={root}"]
    argv += [*(f"--{name}-fd={fd}" for name, fd in keep.items()), "x" * child.TITLE_ROOM]
    entry = userns.Entry() if found.user_namespace else None
    output = os.open(root / "logs" / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become_supervisor(argv, entry, output, list(keep.values()), isolated=found.spec.isolated)
    for fd in (*keep.values(), output):
        os.close(fd)
    for sock in (theirs, reservation, slot):
        sock.detach()
    if entry is not None:
        entry.admit(pid)
    os.waitpid(pid, 0)
    return Control(root, timeout, sock=ours)


def _become_supervisor(argv: list[str], entry: userns.Entry | None, output: int, keep: list[int], *, isolated: bool) -> NoReturn:
    """In a fork: leave the terminal, become root of a user namespace where that is needed, and execute the supervisor in a fork of this one.

    Where there are namespaces at all, the supervisor is the first process of a PID namespace: when it ends, however that comes, the kernel ends everything that
    it has started. For the user's own namespace there is another reason: only what it owns itself can be joined again, see :mod:`zygote`.
    """
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if entry is not None:
            entry.enter()
        if isolated:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        if os.fork() == 0:
            for fd in keep:
                os.set_inheritable(fd, True)
            os.chdir("/")
            os.execve(argv[0], argv, environment())
        status = 0
    except OSError as error:
        print(f"the supervisor could not be started: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def environment() -> dict[str, str]:
    """The environment of the supervisor and all that it starts: with the system's tools on the path, as ordinary users often lack them."""
    path = os.environ.get("PATH", "/usr/bin:/bin").split(os.pathsep)
    path += [folder for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin") if folder not in path]
    return {**os.environ, "PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


# -- contexts ---------------------------------------------------------------------------------------------------------------------------


def merge_context(topology: Topology) -> Path:
    """Put the cluster into the user's kubeconfig, make it current, and remember what was. Returns the file."""
    from kubeling.cluster import kubeconfig

    path = kubeconfig.user_file()
    name = kubeconfig.context_name(topology.spec.name)
    try:
        before = kubeconfig.merge(json.loads(topology.layout.admin_kubeconfig.read_bytes()), path)
    except kubeconfig.KubeconfigBroken as error:
        raise ClusterError(
            f"{error}. The cluster itself runs; its own kubeconfig is {topology.layout.admin_kubeconfig}"
        ) from error
    known = removal.context_of(topology.layout.root)
    previous = known.get("previous", "") if before == name else before
    topology.layout.context.write_text(json.dumps({"kubeconfig": str(path.absolute()), "previous": previous}))
    return path
