"""The first process of a node: it makes the node's world, reaps orphans, and its end is the node's end.

In ``netns`` mode it is PID 1 of the node's PID namespace, so when it dies, by our hand or by ``kill -9``, the kernel kills everything in the node, as
when a machine loses power. It makes the node's mount, network, UTS and IPC namespaces, gives it its own /proc and /run, makes ``/`` rshared (so that mount
propagation into containers works) without letting anything through to the host, and sets up the network card that the supervisor has plugged in.

In ``host`` mode it is a plain process and the subreaper of all that its daemons leave behind; it forks them itself (see :mod:`zygote`) and kills them
when it ends.

Either way it ends when its channel to the supervisor does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from kubeling.cluster import channel, child
from kubeling.linux import netlink, syscalls

#: What a node needs of its network stack; those that a kernel does not have are left out.
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/default/route_localnet": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/arp_ignore": "0",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/ip_local_port_range": "32768 60999",
}


def live(node: str, network: str, config: dict[str, Any], channel_fd: int, log: int) -> NoReturn:
    """Be the init of `node`; called in the fork that is to become it."""
    status = 1
    try:
        child.reset_signals()
        os.setsid()
        child.stdio(log)
        child.close_others([channel_fd])
        sock = socket.socket(fileno=channel_fd)
        child.title("init", f"kubeling-init [{node}]")
        status = _host(sock) if network == "host" else _netns(sock, config)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def _netns(sock: socket.socket, config: dict[str, Any]) -> int:
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
        syscalls.sethostname(config["hostname"])
        _mounts(config)
        channel.send(sock, {"event": "born"})
        if channel.receive(sock) is None:
            return 0
        _network(config)
        channel.send(sock, {"event": "up"})
    except OSError as error:
        channel.send(sock, {"event": "failed", "error": error.strerror or str(error)})
        raise
    _reap_until_end(sock)
    return 0


def _mounts(config: dict[str, Any]) -> None:
    # Slave first: what the host unmounts goes here as well, what is mounted here stays here. Then shared, for the containers.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)
    safe = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("proc", "/proc", "proc", safe | syscalls.MS_NOEXEC)
    resolv = os.path.realpath("/etc/resolv.conf")
    # What lies under /run and must stay visible is held by a descriptor while the node's own /run covers it.
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in config["keep"] if path.startswith("/run/")]
    syscalls.mount("tmpfs", "/run", "tmpfs", safe, "mode=0755")
    for path, fd in kept:
        os.makedirs(path, exist_ok=True)
        syscalls.bind(f"/proc/self/fd/{fd}", path)
        os.close(fd)
    os.makedirs("/run/kubeling", exist_ok=True)
    if resolv.startswith("/run/"):
        os.makedirs(os.path.dirname(resolv), exist_ok=True)
        Path(resolv).touch()
    if os.path.exists(resolv):
        own = Path("/run/kubeling/resolv.conf")
        own.write_text(config["resolv_conf"])
        syscalls.bind(str(own), resolv)


def _network(config: dict[str, Any]) -> None:
    for name, value in SYSCTLS.items():
        path = Path("/proc/sys") / name
        try:
            path.write_text(value)
        except OSError as error:
            print(f"sysctl {name}={value}: {error.strerror}", file=sys.stderr)
    with netlink.Netlink() as link:
        card = socket.if_nametoindex("eth0")
        link.send(
            netlink.link_up(socket.if_nametoindex("lo")),
            *(netlink.address(card, each["address"], each["bits"]) for each in config["networks"]),
            netlink.link_up(card),
            *(netlink.route(card, gateway=each["gateway"], scope=netlink.SCOPE_UNIVERSE) for each in config["networks"]),
        )


def _reap_until_end(sock: socket.socket) -> None:
    wake, wake_up = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        # Before the first wait: a child that ended before the handler was there sends no second signal.
        _reap_all()
        for fd, _ in poll.poll():
            if fd == wake:
                os.read(wake, 4096)
            elif channel.receive(sock) is None:
                return


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _host(sock: socket.socket) -> int:
    from kubeling.cluster.zygote import ForkServer

    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    server = ForkServer(sock)
    channel.send(sock, {"event": "up"})
    try:
        server.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The supervisor has gone while we were talking: the same as the end of the channel.
    kill_descendants()
    return 0


def children_of(pid: int) -> list[int]:
    """The living children of process `pid`; only where /proc is that of our own PID namespace, as in host mode."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                fields = stat[stat.rindex(")") + 2 :].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry))
    return found


def kill_descendants() -> None:
    """Kill all children, then what falls to us from them, until none is left. We are their subreaper, so nobody escapes."""
    while True:
        for pid in children_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
