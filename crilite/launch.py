"""From a fork of the keeper to the container's program.

Everything here runs in the child, alone in its process, with one connection: the status socket to the keeper. The child prepares itself,
says that it is ready, and waits for the word to go; the keeper gives it once the pid is on disk, so that no crash can leave a container that
nobody knows. If the keeper is gone, so is the word, and the child ends. The socket closes by itself at a successful exec; a failure is sent
as one JSON message before the child exits.

The pid namespace is chosen by the keeper before it forks (see :mod:`kubeling.crilite.keeper`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import termios
from typing import Any, NoReturn

from kubeling.crilite import pausing, rootfs, users
from kubeling.linux import capabilities, syscalls

_STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LaunchError(Exception):
    """The container cannot be started as asked. `code` is the exit code that is reported for it."""

    def __init__(self, message: str, code: int = 128) -> None:
        super().__init__(message)
        self.code = code


def container(
    spec: dict[str, Any], status: socket.socket, joins: list[str], *, scratch: str, fifos: tuple[str, str, str]
) -> NoReturn:
    """Become the first process of the container that `spec` describes. `joins`: see :meth:`cgroups.Cgroups.joins`, those that it is not born in.
    `fifos`: paths for stdin (empty for none), stdout, stderr."""
    with failures_to(status):
        fresh_start({status.fileno()})
        if spec["rootfs"]["kind"] != "none":
            _hide_from_neighbours()
        stdio = [] if spec["tty"] else open_fifos(fifos)
        _join_cgroups(joins)
        _adjust_oom(spec.get("oom_score_adj"))
        if spec["rootfs"]["kind"] != "none":
            _namespaces(spec, scratch)
        me = _become(spec, spec["user"])
        environment = _environment(spec, me)
        _change_directory(spec["cwd"], create=spec["rootfs"]["kind"] != "none", me=me)
        if spec["tty"]:
            stdio = [_terminal(status)] * 3
        program = _find_program(spec["args"], environment)
        _lose_privileges(spec, me)
        who = {"uid": me.uid, "gid": me.gid, "groups": list(me.groups), "owner": _on_the_node(spec, me.uid)}
        _tell(status, {"ready": True, **who})
        if status.recv(1) != b"g":
            os._exit(1)
        _execute(spec, program, environment, stdio)


def execute_in(
    spec: dict[str, Any], status: socket.socket, joins: list[str], *, pid: int, pidfd: int, stdio: list[int]
) -> NoReturn:
    """Run ``spec["args"]`` beside the container's first process, which `pid` and `pidfd` stand for (-1: it has no namespaces of its own)."""
    with failures_to(status):
        fresh_start({status.fileno(), pidfd, *stdio})
        _join_cgroups(joins)
        if pidfd >= 0:
            _hide_from_neighbours()
            syscalls.setns(pidfd, _foreign_namespaces(pid))
            if spec.get("user_namespace"):
                # Last: some of the others belong to the node's.
                syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
                _be_root_there()
            os.chdir("/")
        me = users.resolve(spec["user"])
        environment = _environment(spec, me)
        _change_directory(spec["cwd"], create=False, me=me)
        if spec["tty"]:
            stdio = [_terminal(status)] * 3
        program = _find_program(spec["args"], environment)
        _lose_privileges(spec, me)
        _tell(status, {"ready": True})
        if status.recv(1) != b"g":
            os._exit(1)
        _execute(spec, program, environment, stdio)


def pause(status: socket.socket, joins: list[str]) -> NoReturn:
    """Become the init of a pid namespace that containers share, see :mod:`kubeling.crilite.pausing`."""
    with failures_to(status):
        fresh_start({status.fileno()})
        _join_cgroups(joins)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        # From before the exec, so that none is lost on the way.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        _tell(status, {"ready": True})
        if status.recv(1) != b"g":
            os._exit(1)
        os.chdir("/")
        # The name must be the interpreter's own: by it Python finds its library.
        os.execve("/proc/self/exe", [sys.executable, "-I", "-S", pausing.__file__], {})


def probe_overlay(status: socket.socket, folder: str, *, userxattr: bool) -> NoReturn:
    """Find out whether overlayfs works with its files in `folder`, and end."""
    with failures_to(status):
        rootfs.try_overlay(folder, userxattr=userxattr)
        _tell(status, {"ready": True})
        os._exit(0)


class failures_to:  # noqa: N801 - used like a function
    """Whatever goes wrong is told to the keeper, and the child ends: it must never return into the keeper's code."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> NoReturn:
        code = error.code if isinstance(error, LaunchError) else 128
        with contextlib.suppress(OSError):
            _tell(self._status, {"error": str(error) or repr(error), "kind": type(error).__name__, "code": code})
        os._exit(code if 0 < code < 256 else 128)


def _tell(status: socket.socket, message: dict[str, Any]) -> None:
    status.send(json.dumps(message).encode()[:60000])


def fresh_start(keep: set[int]) -> None:
    """Let go of everything of the keeper's but the descriptors in `keep`, undo what Python and the keeper have done to this process's signals, and
    lead a session."""
    before = 3
    for fd in sorted(fd for fd in keep if fd >= before):
        os.closerange(before, fd)
        before = fd + 1
    os.closerange(before, max((int(name) for name in os.listdir("/proc/self/fd")), default=before) + 1)
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    # The C library's own, which it lets nobody set.
    for number in (32, 33):
        with contextlib.suppress(OSError):
            syscalls.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.umask(0o022)


def _hide_from_neighbours() -> None:
    """Until the exec this process is a part of the node in a container's pid namespace: nobody there may look into its memory, take its descriptors or
    reach its root and its program by /proc (CVE-2016-9962, CVE-2019-5736), nor find the keys of other containers in its session's keyring."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.new_session_keyring()


def open_fifos(fifos: tuple[str, str, str]) -> list[int]:
    stdin, stdout, stderr = fifos
    first = os.open(stdin or "/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    # Open for reading too: while the keeper is away the pipe still has a reader, and writing to it waits instead of killing the writer.
    return [first, *(os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in (stdout, stderr))]


def _join_cgroups(joins: list[str]) -> None:
    for path in joins:
        try:
            with open(path, "w") as file:
                file.write("0")
        except OSError as error:
            raise LaunchError(f"cannot join the container's cgroup: {error}") from error


def _adjust_oom(wanted: int | None) -> None:
    """Set the score that was asked for, or the nearest that this process may have: lowering it takes CAP_SYS_RESOURCE."""
    if wanted is None:
        return
    path = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError):
        with open(path) as file:
            current = int(file.read())
        for value in (wanted, max(wanted, current)):
            try:
                with open(path, "w") as file:
                    file.write(str(max(-1000, min(1000, value))))
                return
            except PermissionError:
                continue


def _namespaces(spec: dict[str, Any], scratch: str) -> None:
    where = spec["namespaces"]
    users = os.open(where["user"], os.O_RDONLY | os.O_CLOEXEC) if where["user"] else -1
    sources = rootfs.clone_sources(spec, users)
    for name, kind in (("ipc", syscalls.CLONE_NEWIPC), ("uts", syscalls.CLONE_NEWUTS), ("net", syscalls.CLONE_NEWNET)):
        if where[name]:
            syscalls.setns_path(where[name], kind)
    if users >= 0:
        # Who owns nothing in a file system with mapped ids can create nothing there: what we make belongs to the pod's root from here on.
        syscalls.own_files_as(_on_the_node(spec, 0), _on_the_node(spec, 0, "gids"))
        everything = capabilities.bounding()
        capabilities.apply(everything, 0, 0)
    rootfs.enter(spec, scratch, users)
    if spec["cgroup_procs"]:
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    rootfs.furnish(spec, sources)
    if users >= 0:
        _enter_user_namespace(users)


def _enter_user_namespace(users: int) -> None:
    """Be root of the pod's user namespace, in a mount namespace that belongs to it."""
    syscalls.setns(users, syscalls.CLONE_NEWUSER)
    _be_root_there()
    syscalls.unshare(syscalls.CLONE_NEWNS)


def _be_root_there() -> None:
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _on_the_node(spec: dict[str, Any], number: int, kind: str = "uids") -> int:
    """Who a user (or with ``gids`` a group) of the container is outside."""
    users = spec.get("user_namespace")
    if not users:
        return number
    for inside, outside, length in users[kind]:
        if inside <= number < inside + length:
            return int(outside + number - inside)
    raise LaunchError(f"{number} is not among the {kind} of the pod's user namespace")


def _foreign_namespaces(pid: int) -> int:
    """The CLONE_NEW* flags of those namespaces of `pid` that are not ours: to join one's own may be forbidden in a user namespace."""
    kinds = {
        "mnt": syscalls.CLONE_NEWNS,
        "net": syscalls.CLONE_NEWNET,
        "ipc": syscalls.CLONE_NEWIPC,
        "uts": syscalls.CLONE_NEWUTS,
        "cgroup": syscalls.CLONE_NEWCGROUP,
    }
    flags = 0
    for name, flag in kinds.items():
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
            flags |= flag
    return flags


def _become(spec: dict[str, Any], wanted: dict[str, Any]) -> users.Identity:
    if spec["rootfs"]["kind"] == "none" and os.getuid() != 0:
        return users.Identity(os.getuid(), os.getgid(), tuple(os.getgroups()), os.environ.get("HOME", "/"))
    return users.resolve(wanted)


def _environment(spec: dict[str, Any], me: users.Identity) -> dict[str, str]:
    environment: dict[str, str] = {}
    for entry in spec["env"]:
        name, _, value = entry.partition("=")
        environment[name] = value
    environment.setdefault("PATH", _STANDARD_PATH)
    environment.setdefault("HOME", me.home)
    if spec["tty"]:
        environment.setdefault("TERM", "xterm")
    return environment


def _change_directory(path: str, *, create: bool, me: users.Identity) -> None:
    path = path or "/"
    try:
        os.chdir(path)
    except FileNotFoundError:
        if not create:
            raise LaunchError(f"the working directory {path} does not exist") from None
        os.makedirs(path, exist_ok=True)
        os.chown(path, me.uid, me.gid)
        os.chdir(path)
    try:
        os.getcwd()
    except FileNotFoundError:
        # A path like /proc/self/fd/7 may lead to a directory of the node that is open here (CVE-2024-21626).
        raise LaunchError(f"the working directory {path} is not inside the container") from None


def _find_program(args: list[str], environment: dict[str, str]) -> str:
    if not args or not args[0]:
        raise LaunchError("no command is given: neither the container nor its image names one")
    name = args[0]
    if "/" in name:
        if not os.path.exists(name):
            raise LaunchError(f'exec: "{name}": stat {name}: no such file or directory', 128)
        return name
    denied = False
    for folder in environment["PATH"].split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = True
    raise LaunchError(f'exec: "{name}": {"permission denied" if denied else "executable file not found in $PATH"}', 128)


def _terminal(status: socket.socket) -> int:
    """A new terminal of the container's own devpts: the keeper gets its master, this process its slave."""
    master, slave = os.openpty()
    socket.send_fds(status, [b'{"terminal": true}'], [master])
    os.close(master)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return slave


def _lose_privileges(spec: dict[str, Any], me: users.Identity) -> None:
    for name, limit in spec["rlimits"].items():
        _limit(getattr(resource, name), limit)
    if os.getuid() != 0:
        _finish_privileges(spec)
        return
    current = capabilities.bounding()
    caps = spec["capabilities"]
    keep = current if caps is None else caps["bounding"] & current
    ambient = 0 if caps is None else caps["ambient"] & keep
    capabilities.drop_bounding(keep, current)
    try:
        os.setgroups(me.groups)
    except PermissionError:
        # In a user namespace that maps one group only the kernel forbids to drop groups; there are none that it could lend.
        if set(me.groups) - {0}:
            raise
    os.setresgid(me.gid, me.gid, me.gid)
    capabilities.keep_over_setuid()
    os.setresuid(me.uid, me.uid, me.uid)
    # The seccomp filter comes last, so that a profile need permit nothing that only we do; without no_new_privs it takes this capability. It is out of
    # the bounding set already, and so the exec takes it away.
    capabilities.apply(keep | (capabilities.mask(["SYS_ADMIN"]) if spec["seccomp"] else 0), ambient, ambient)
    _finish_privileges(spec)


def _finish_privileges(spec: dict[str, Any]) -> None:
    if spec["no_new_privs"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY and (value > hard or value == resource.RLIM_INFINITY):
        value = hard
    resource.setrlimit(kind, (value, value))


def _execute(spec: dict[str, Any], program: str, environment: dict[str, str], stdio: list[int]) -> NoReturn:
    # First out of the way of 0, 1 and 2: the descriptors themselves may be among these.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for target, fd in enumerate(high):
        os.dup2(fd, target)
    if spec["seccomp"]:
        syscalls.seccomp_filter(bytes.fromhex(spec["seccomp"]))
    try:
        os.execve(program, spec["args"], environment)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            # A script without its first line, as a shell would take it.
            os.execve("/bin/sh", ["/bin/sh", program, *spec["args"][1:]], environment)
        reason = "no such file or directory" if error.errno == errno.ENOENT else os.strerror(error.errno or 0).lower()
        raise LaunchError(f'exec: "{spec["args"][0]}": {reason}') from error
