"""The keeper: one small single-threaded process that forks all containers of a node and holds on to them.

It is the parent (and subreaper) of every container, reads their output into CRI logs, and writes each exit code to disk before telling
anybody. It imports nothing but the standard library, has no threads, and does what cannot be done from the gRPC daemon: fork. It outlives
the daemon: whoever connects to its socket is told what it holds. One process for all containers, forked from, costs a container no more
than a few descriptors.

It may itself be killed: output goes through named pipes that the container too holds open, so a new keeper finds everything under its state
directory, takes the running containers over by pidfd (`_adopt`), and goes on reading where the old one stopped. Only the exit code of a
container that ended while there was no keeper is lost, and on kernels before 6.15 that of an adopted one.

It listens on ``<state>/keeper.sock``; see :mod:`kubeling.crilite.switchboard` for how it is spoken to.

When it holds nothing and nobody is connected, it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from kubeling.crilite import launch, launch_oci
from kubeling.crilite.held import Held, Launch, Session, exit_code, short_path, wait_pidfd_exit
from kubeling.crilite.switchboard import Client, Operation, Switchboard
from kubeling.linux import cloning, syscalls

_MAX_STRAYS = 10_000


class Keeper:
    """The loop. Every method runs to its end without waiting for anybody."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.selector = selectors.DefaultSelector()
        self.held: dict[str, Held] = {}
        self.sessions: dict[str, Session] = {}
        self.launches: dict[int, Launch] = {}
        #: What ended while a helper had not said yet that it was its own.
        self.strays: dict[int, int] = {}
        self.own_pidfd = os.pidfd_open(os.getpid())
        ops: dict[str, Operation] = {
            "hello": self._op_hello,
            "prepare": self._op_prepare,
            "start": self._op_start,
            "pause": self._op_pause,
            "exec": self._op_exec,
            "kill": self._op_kill,
            "kill-session": self._op_kill_session,
            "reopen": self._op_reopen,
            "attach": self._op_attach,
            "close-stdin": self._op_close_stdin,
            "probe-overlay": self._op_probe_overlay,
        }
        self.daemons = Switchboard(self.selector, ops, self._gone)

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until there is nothing left to keep."""
        with contextlib.suppress(OSError):
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        path = os.path.join(self.state, "keeper.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with short_path(self.state) as folder:
            listener.bind(f"{folder}/keeper.sock")
        os.chmod(path, 0o600)
        listener.listen(8)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._adopt_all()
        self._watch(listener, lambda: self.daemons.accept(listener))
        self._watch(wake_read, lambda: self._reap(wake_read))
        ready()
        # Whoever started the keeper has this long to connect before an idle keeper ends.
        grace: float | None = 30.0
        while True:
            events = self.selector.select(grace)
            if not events and grace is not None and not (self.daemons.clients or self.held or self.launches):
                break
            for key, _ in events:
                # One callback may have unregistered what another was to be called for. By number: what is closed has none any more.
                current = self.selector.get_map().get(key.fd)
                if current is not None:
                    self._call(current)
            idle = not (self.daemons.clients or self.held or self.launches)
            grace = 1.0 if idle else None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def _call(self, key: selectors.SelectorKey) -> None:
        """A mistake about one thing must not be the end of all the others: it is written down, and that one thing is heard no more."""
        try:
            key.data()
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            current = self.selector.get_map().get(key.fd)
            if current is not None and current.fileobj == key.fileobj:
                self.selector.unregister(key.fd)

    def _watch(self, fileobj: Any, callback: Callable[[], None]) -> None:
        self.selector.register(fileobj, selectors.EVENT_READ, callback)

    def _gone(self, client: Client) -> None:
        """A daemon is gone: nobody is left who could read the output of what it has run by exec, or wait for it, or start what it has had prepared."""
        for session in self.sessions.values():
            if session.client is client:
                session.kill(signal.SIGKILL)
        for one in list(self.launches.values()):
            if one.client is client and not one.wanted:
                self._finish_launch(one)

    # -- requests ------------------------------------------------------------------------------------------------------------------------------

    def _op_hello(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        prepared = {one.held.name for one in self.launches.values() if one.held is not None and not one.wanted}
        return {"pid": os.getpid(), "held": {name: held.pid for name, held in self.held.items() if name not in prepared}}

    def _op_prepare(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Do all that comes before the start of a container. Whether that works is not told: then the start does it again, and says what is wrong."""
        if request["container"] not in self.held:
            self._launch(client, request, wanted=False)
        return {}

    def _op_start(self, client: Client, request: dict[str, Any], fds: list[int]) -> None:
        name = request["container"]
        prepared = next((one for one in self.launches.values() if one.held is not None and one.held.name == name), None)
        if prepared is not None and not prepared.wanted:
            prepared.client, prepared.request, prepared.wanted = client, request["id"], True
            if prepared.said is not None and not self._let_go(prepared):
                self._finish_launch(prepared)
            return
        if name in self.held:
            raise OSError(errno.EEXIST, f"container {name} is already started")
        self._launch(client, request, wanted=True)

    def _launch(self, client: Client, request: dict[str, Any], *, wanted: bool) -> None:
        name = request["container"]
        folder = os.path.join(self.state, "containers", name)
        with open(os.path.join(folder, "spec.json"), "rb") as file:
            spec = json.load(file)
        held = Held(name, folder, spec)
        held.make_fifos()
        scratch = os.path.join(folder, "rootfs")
        paths = held.fifo_paths()
        child_end, keeper_end = self._status_pair()
        target = spec["namespaces"]["pid"]
        helper = bool(spec.get("oci"))
        joins = spec["cgroup_procs"]

        def become(left: list[str]) -> None:
            launch.container(spec, child_end, left, scratch=scratch, fifos=paths)

        if helper:
            pid = self._fork(-1, lambda _: launch_oci.container(spec, child_end, folder=folder, fifos=paths), keeper_end)
        elif target == "new" and spec["rootfs"]["kind"] != "none":
            pid = self._fork(0, become, keeper_end, joins)
        elif isinstance(target, int):
            pidfd = os.pidfd_open(target)
            try:
                pid = self._fork(pidfd, become, keeper_end, joins)
            finally:
                os.close(pidfd)
        else:
            pid = self._fork(-1, become, keeper_end, joins)
        child_end.close()
        held.pid = pid
        self.held[name] = held
        self._launched(Launch(pid, keeper_end, client, request["id"], wanted, held=held, helper=helper))

    def _op_pause(self, client: Client, request: dict[str, Any], fds: list[int]) -> None:
        name = request["container"]
        folder = os.path.join(self.state, "containers", name)
        os.makedirs(folder, exist_ok=True)
        held = Held(name, folder, {"log_path": "", "tty": False, "stdin": False, "oom_file": ""})
        child_end, keeper_end = self._status_pair()
        held.pid = self._fork(0, lambda left: launch.pause(child_end, left), keeper_end, request["cgroup_procs"])
        child_end.close()
        self.held[name] = held
        self._launched(Launch(held.pid, keeper_end, client, request["id"], held=held))

    def _op_exec(self, client: Client, request: dict[str, Any], fds: list[int]) -> None:
        held = self.held[request["container"]]
        spec = json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        child_end, keeper_end = self._status_pair()
        pidfd = -1
        helper = bool(spec.get("oci"))
        if helper:
            name, wanted = request["session"], fds[1:]
            pid = self._fork(
                -1, lambda _: launch_oci.execute_in(spec, child_end, folder=held.folder, name=name, stdio=wanted), keeper_end
            )
            child_end.close()
            session = Session(name, pid, client)
            self.sessions[name] = session
            self._launched(Launch(pid, keeper_end, client, request["id"], session=session, helper=True))
            return
        try:
            if spec["rootfs"]["kind"] != "none":
                pidfd = os.pidfd_open(held.pid)
            stdio, first = fds[1:], held.pid

            def become(left: list[str]) -> None:
                launch.execute_in(spec, child_end, left, pid=first, pidfd=pidfd, stdio=stdio)

            pid = self._fork(pidfd, become, keeper_end, spec["cgroup_procs"])
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        child_end.close()
        session = Session(request["session"], pid, client)
        self.sessions[session.name] = session
        self._launched(Launch(pid, keeper_end, client, request["id"], session=session))

    def _op_kill(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        held = self.held.get(request["container"])
        if held is not None:
            held.kill(request["signal"], everything=bool(request.get("everything")))
        return {"held": held is not None}

    def _op_kill_session(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        session = self.sessions.get(request["session"])
        if session is not None:
            session.kill(request["signal"])
        return {"held": session is not None}

    def _op_reopen(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        self.held[request["container"]].log.reopen()
        return {}

    def _op_attach(self, client: Client, request: dict[str, Any], fds: list[int]) -> None:
        """From now on the container's output is written to the descriptors too; a terminal's master comes back, to write to."""
        held = self.held[request["container"]]
        held.attach(self.selector, [os.dup(fd) for fd in fds])
        back = [os.dup(held.terminal)] if held.terminal >= 0 else []
        self.daemons.send(client, {"id": request["id"], "terminal": bool(back)}, back)

    def _op_close_stdin(self, client: Client, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        self.held[request["container"]].close_stdin()
        return {}

    def _op_probe_overlay(self, client: Client, request: dict[str, Any], fds: list[int]) -> None:
        child_end, keeper_end = self._status_pair()
        folder, userxattr = request["folder"], request["userxattr"]
        pid = self._fork(-1, lambda _: launch.probe_overlay(child_end, folder, userxattr=userxattr), keeper_end)
        child_end.close()
        self._launched(Launch(pid, keeper_end, client, request["id"]))

    # -- children ------------------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _status_pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def _fork(self, where: int, body: Callable[[list[str]], Any], keeper_end: socket.socket, joins: Sequence[str] = ()) -> int:
        """Fork a child that runs `body`: into a new pid namespace (`where` 0), into that of a pidfd (> 0), or into our own (-1). The body is told which
        of the cgroups it still has to join."""
        if where == 0:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        elif where > 0:
            syscalls.setns(where, syscalls.CLONE_NEWPID)
        pid, left = -1, list(joins)
        try:
            pid, left = _born_in(left)
        finally:
            # Only the children's namespace was chosen, and the choice can be taken back.
            if where >= 0 and pid != 0:
                syscalls.setns(self.own_pidfd, syscalls.CLONE_NEWPID)
        if pid == 0:
            try:
                keeper_end.close()
                body(left)
            finally:
                os._exit(128)
        return pid

    def _launched(self, one: Launch) -> None:
        one.sock.setblocking(False)
        self.launches[one.pid] = one
        self._watch(one.sock, lambda: self._progress(one))

    def _progress(self, one: Launch) -> None:
        """A child has said something, or has closed its end: by starting its program, or by dying."""
        while True:
            try:
                data, fds, _flags, _address = socket.recv_fds(one.sock, 65536, 4)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                break
            message = json.loads(data)
            if fds:
                one.terminal = fds[0]
            elif "error" in message:
                one.failure = message
            elif message.get("ready"):
                one.said = message
                if one.helper:
                    one.status = self.strays.pop(message["pid"], None)
                    if one.session is not None:
                        one.session.pid = message["pid"]
                if one.held is not None:
                    one.held.pid = message.get("pid", one.held.pid)
                if one.wanted and not self._let_go(one):
                    break
        self._finish_launch(one)

    def _let_go(self, one: Launch) -> bool:
        """A child is ready and may become what it is to be, once that is on record; whether it is."""
        if one.held is not None:
            try:
                one.held.started(one.said or {})
            except OSError as error:
                # What cannot be put on record must not run: it waits for a word that does not come.
                one.failure = {"error": f"the start cannot be written down: {error}", "kind": "OSError", "code": 128}
                if one.helper:
                    one.held.kill(signal.SIGKILL)
                return False
        with contextlib.suppress(OSError):
            one.sock.send(b"g")
        return True

    def _finish_launch(self, one: Launch) -> None:
        if self.launches.pop(one.pid, None) is None:
            return
        self.selector.unregister(one.sock)
        one.sock.close()
        if one.failure is None and (one.said is None or not one.wanted):
            one.failure = {"error": "the process ended before it could be set up", "kind": "LaunchError", "code": 128}
        if one.failure is not None:
            self._launch_failed(one)
            return
        answer = {"pid": one.pid, **(one.said or {}), "id": one.request}
        if one.held is not None:
            if one.terminal >= 0:
                one.held.use_terminal(one.terminal)
            one.held.listen(self.selector)
            self.daemons.send(one.client, answer)
            if one.status is not None:
                self._ended(one.held, exit_code(one.status))
        elif one.session is not None:
            self.daemons.send(one.client, answer, [one.terminal] if one.terminal >= 0 else None)
            if one.status is not None:
                self._session_ended(one.session, exit_code(one.status))
        else:
            self.daemons.send(one.client, answer)

    def _launch_failed(self, one: Launch) -> None:
        with contextlib.suppress(ProcessLookupError):
            if one.status is None:
                os.kill(one.pid, signal.SIGKILL)
        if one.terminal >= 0:
            os.close(one.terminal)
        if one.held is not None:
            self.held.pop(one.held.name, None)
            one.held.discard(self.selector)
        if one.session is not None:
            self.sessions.pop(one.session.name, None)
        if one.wanted:
            self.daemons.send(one.client, {"id": one.request, **(one.failure or {})})

    def _reap(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(wake, 4096):
                pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            try:
                self._reaped(pid, status)
            except Exception:  # As in _call: the others are still to be reaped.
                traceback.print_exc()
                sys.stderr.flush()

    def _reaped(self, pid: int, status: int) -> None:
        for other in self.launches.values():
            if other.helper and pid != other.pid and pid in (target.pid for target in (other.held, other.session) if target):
                # It has ended before its helper has: that is told when it is known to have begun.
                other.status = status
                return
        one = self.launches.get(pid)
        if one is not None:
            if not one.helper:
                one.status = status
            self._progress(one)
            if pid in self.launches:
                # Its end of the socket lives on in a child that it left behind.
                self._finish_launch(one)
            return
        for held in self.held.values():
            if held.pid == pid:
                self._ended(held, exit_code(status))
                return
        for session in self.sessions.values():
            if session.pid == pid:
                self._session_ended(session, exit_code(status))
                return
        helpers = any(one.helper for one in self.launches.values())
        self.strays = {**self.strays, pid: status} if helpers and len(self.strays) < _MAX_STRAYS else {}

    def _ended(self, held: Held, code: int) -> None:
        record = held.finish(self.selector, code)
        self.held.pop(held.name, None)
        self.daemons.broadcast({"event": "exit", "container": held.name, **record})

    def _session_ended(self, session: Session, code: int) -> None:
        self.sessions.pop(session.name, None)
        if session.client in self.daemons.clients:
            self.daemons.send(session.client, {"event": "session-exit", "session": session.name, "code": code})

    # -- after a keeper's death ----------------------------------------------------------------------------------------------------------------

    def _adopt_all(self) -> None:
        folder = os.path.join(self.state, "containers")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            try:
                self._adopt(name, os.path.join(folder, name))
            except (OSError, ValueError, KeyError):
                traceback.print_exc()

    def _adopt(self, name: str, folder: str) -> None:
        held = Held.from_disk(name, folder)
        if held is None:
            return
        try:
            pidfd = os.pidfd_open(held.pid)
        except OSError:
            pidfd = -1
        if pidfd < 0 or not held.is_same_process():
            if pidfd >= 0:
                os.close(pidfd)
            held.finish(self.selector, 255, reason="Unknown")
            return
        held.pidfd = pidfd
        held.listen(self.selector)
        self.held[name] = held

        def gone() -> None:
            code = wait_pidfd_exit(pidfd)
            self.selector.unregister(pidfd)
            self._ended(held, 255 if code is None else code)

        self._watch(pidfd, gone)


def _born_in(joins: list[str]) -> tuple[int, list[str]]:
    """Fork; what os.fork returns, and which of the cgroups the child still has to join: that of version 2, where it cannot be born in it, and those of
    version 1."""
    whole = next((path for path in joins if path.endswith("/cgroup.procs")), "")
    if whole:
        with contextlib.suppress(OSError):
            folder = os.open(os.path.dirname(whole), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return cloning.fork_into(folder), [path for path in joins if path != whole]
            finally:
                os.close(folder)
    return os.fork(), joins
