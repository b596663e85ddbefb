"""From a fork of the keeper to a container that an OCI runtime has made.

The child mounts the root file system in a mount namespace of its own (from which the runtime makes the container's), has the runtime create the
container with the container's pipes as its own standard streams, and says who it is; the keeper, which is the subreaper, becomes the parent of the
container's first process. When that is on disk, the child has the runtime start it, and ends.

crun refuses a machine whose cgroups are a mixture of both versions; so the unified part is not shown to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
from typing import Any, NoReturn

from kubeling.crilite import launch, oci, rootfs, users
from kubeling.crilite.held import short_path
from kubeling.linux import syscalls
from kubeling.linux.syscalls import MS_PRIVATE, MS_REC, MS_SLAVE

_SECONDS = 60
_MAX_LINKS = 40
_UNIFIED = "/sys/fs/cgroup/unified"


def container(spec: dict[str, Any], status: socket.socket, *, folder: str, fifos: tuple[str, str, str]) -> NoReturn:
    """Create and start the container of `spec`, whose state is in `folder`."""
    with launch.failures_to(status):
        launch.fresh_start({status.fileno()})
        stdio = [] if spec["tty"] else launch.open_fifos(fifos)
        _own_mounts()
        root = _mount_root(spec, os.path.join(folder, "rootfs"))
        me = users.resolve(spec["user"], _inside(root, "/etc/passwd"), _inside(root, "/etc/group"))
        bundle = os.path.join(folder, "bundle")
        os.makedirs(bundle, mode=0o700, exist_ok=True)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(oci.config(spec, root, me), file)
        pid_file = os.path.join(bundle, "pid")
        runtime = _Runtime(spec, bundle)
        with _console(spec, bundle) as console:
            runtime.run(["create", "--bundle", bundle, "--pid-file", pid_file, *console.flags, spec["id"]], stdio)
            console.pass_on(status)
        with open(pid_file) as file:
            pid = int(file.read())
        _say(status, {"ready": True, "pid": pid, "uid": me.uid, "gid": me.gid, "groups": list(me.groups)})
        _await_go(status, runtime, spec)
        try:
            runtime.run(["start", spec["id"]])
        except launch.LaunchError:
            runtime.try_run(["delete", "--force", spec["id"]])
            raise
        os._exit(0)


def execute_in(spec: dict[str, Any], status: socket.socket, *, folder: str, name: str, stdio: list[int]) -> NoReturn:
    """Run ``spec["args"]`` in the container, for the session `name`."""
    with launch.failures_to(status):
        launch.fresh_start({status.fileno(), *stdio})
        _own_mounts()
        bundle = os.path.join(folder, "bundle")
        with open(os.path.join(bundle, "config.json")) as file:
            user = json.load(file)["process"]["user"]
        me = users.Identity(user["uid"], user["gid"], tuple(user["additionalGids"]), "/")
        described, pid_file = (os.path.join(bundle, f"{name}.{suffix}") for suffix in ("json", "pid"))
        try:
            with open(described, "w") as file:
                json.dump(oci.process(spec, me), file)
            _say_and_run(spec, status, bundle, ["--process", described, "--pid-file", pid_file], pid_file, stdio)
        finally:
            for path in (described, pid_file):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        os._exit(0)


def _say_and_run(
    spec: dict[str, Any], status: socket.socket, bundle: str, flags: list[str], pid_file: str, stdio: list[int]
) -> None:
    runtime = _Runtime(spec, bundle)
    with _console(spec, bundle) as console:
        runtime.run(["exec", "--detach", *flags, *console.flags, spec["id"]], stdio)
        console.pass_on(status)
    with open(pid_file) as file:
        _say(status, {"ready": True, "pid": int(file.read())})
    status.recv(1)


def _say(status: socket.socket, message: dict[str, Any]) -> None:
    status.send(json.dumps(message).encode())


def _await_go(status: socket.socket, runtime: _Runtime, spec: dict[str, Any]) -> None:
    if status.recv(1) != b"g":
        # The keeper is gone: nobody would know of it.
        runtime.try_run(["delete", "--force", spec["id"]])
        os._exit(1)


class _Runtime:
    def __init__(self, spec: dict[str, Any], bundle: str) -> None:
        self._log = os.path.join(bundle, "log")
        self._command = [*spec["oci"]["command"], "--root", spec["oci"]["root"], "--log", self._log, "--log-format", "json"]

    def run(self, words: list[str], stdio: list[int] | None = None) -> None:
        """A LaunchError has the runtime's own words. `stdio` becomes the container's."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        first, second, third = stdio or [null] * 3
        try:
            status = subprocess.run(
                [*self._command, *words], stdin=first, stdout=second, stderr=third, timeout=_SECONDS, check=False
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise launch.LaunchError(f"{self._command[0]} {words[0]}: {error}") from error
        finally:
            os.close(null)
        if status != 0:
            raise launch.LaunchError(
                f"{os.path.basename(self._command[0])} {words[0]}: {self._reason() or f'exit status {status}'}"
            )

    def try_run(self, words: list[str]) -> None:
        with contextlib.suppress(launch.LaunchError):
            self.run(words)

    def _reason(self) -> str:
        words = ""
        with contextlib.suppress(OSError), open(self._log, errors="replace") as log:
            for line in log:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry.get("level", "error") in ("error", "fatal"):
                        words = str(entry["msg"])
        return words


class _console:  # noqa: N801 - used like a function
    """Where the runtime hands over the container's terminal, for one that has one."""

    def __init__(self, spec: dict[str, Any], bundle: str) -> None:
        self._folder = short_path(bundle)
        self._listener: socket.socket | None = None
        self._wanted = bool(spec["tty"])
        self._path = ""
        self.flags: list[str] = []

    def __enter__(self) -> _console:
        if self._wanted:
            folder = self._folder.__enter__()
            self._path = f"{folder}/console-{os.getpid()}.sock"
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._listener.bind(self._path)
            self._listener.listen(1)
            # The runtime is another process: it goes there through us.
            self.flags = ["--console-socket", self._path.replace("/proc/self/", f"/proc/{os.getpid()}/")]
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._folder.__exit__(None, None, None)

    def pass_on(self, status: socket.socket) -> None:
        if self._listener is None:
            return
        self._listener.settimeout(_SECONDS)
        link, _ = self._listener.accept()
        with link:
            _, fds, _, _ = socket.recv_fds(link, 4096, 1)
        if not fds:
            raise launch.LaunchError("the runtime has handed over no terminal")
        socket.send_fds(status, [b'{"terminal": true}'], fds)
        for fd in fds:
            os.close(fd)


def _own_mounts() -> None:
    """A mount namespace that the node's mounts come to, and from which nothing goes back."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", MS_REC | MS_SLAVE)
    if os.path.isdir(_UNIFIED):
        with contextlib.suppress(OSError):
            syscalls.umount(_UNIFIED, syscalls.MNT_DETACH)


def _mount_root(spec: dict[str, Any], scratch: str) -> str:
    # runc goes to the root's path on every exec, although by then nothing is mounted there for it to see.
    os.makedirs(os.path.join(scratch, "root"), mode=0o700, exist_ok=True)
    syscalls.bind(scratch, scratch)
    syscalls.mount("none", scratch, "", MS_PRIVATE)
    root: str = rootfs.mount_root(spec["rootfs"], scratch)
    return root


def _inside(root: str, path: str) -> str:
    """Where `path` of the container is outside, with symbolic links taken as inside: none leads out."""
    done: list[str] = []
    queue = [part for part in path.split("/") if part]
    for _ in range(_MAX_LINKS * 4):
        if not queue:
            break
        part = queue.pop(0)
        if part in (".", ""):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = os.path.join(root, *done, part)
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.lstat(here).st_mode):
                goal = os.readlink(here)
                if goal.startswith("/"):
                    done = []
                queue[:0] = goal.split("/")
                continue
        done.append(part)
    return os.path.join(root, *done)
