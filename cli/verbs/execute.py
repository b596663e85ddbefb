"""`exec` and `attach`: a command in a container, or the container's own, over the `v5.channel.k8s.io` WebSocket protocol.

Each message begins with the number of its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the terminal's size, 255 the end of a channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from typing import IO, Annotated, Any

import orjson
import typer

from kubeling.api.errors import ApiError
from kubeling.api.resources import PODS
from kubeling.cli import flags
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs.logs import container_of, pod_of
from kubeling.cli.verbs.wait import until
from kubeling.cli.websocket import WebSocket, connect

PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = b"\x00", 1, 2, 3, b"\x04", b"\xff"
_PIECE = 32 * 1024


async def execute(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="POD | TYPE/NAME [-c CONTAINER] -- COMMAND [ARG…]")] = None,
    container: Annotated[str, typer.Option("-c", "--container", help="Which container.")] = "",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass our standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="With a terminal.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only what the command itself writes.")] = False,
) -> int:
    """Run a command in a container: `kubeling exec web-1 -- ls /`, `kubeling exec -it deploy/web -- sh`. Exits as the command does."""
    before, _, command = flags.split_at_dashes(words)
    if not before:
        raise CommandError("pod, type/name or --filename must be specified")
    command = [*before[1:], *command]
    if not command:
        raise CommandError("you must specify at least one command for the container")
    pod = await pod_of(session, before[0])
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise CommandError(f"cannot exec into a container in a completed pod; current phase is {phase}")
    tty = _with_terminal(tty and stdin)
    name = container_of(pod, container, quiet=quiet)
    query = [*(("command", word) for word in command), ("container", name), ("stdout", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("tty", "true")] if tty else [("stderr", "true")]
    return await _session(session, pod, "exec", query, stdin=stdin, tty=tty)


async def attach(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="POD | TYPE/NAME [-c CONTAINER]")] = None,
    container: Annotated[str, typer.Option("-c", "--container", help="Which container.")] = "",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass our standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="With a terminal.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only what the command itself writes.")] = False,
) -> int:
    """See what a running container writes from now on, and write to it with -i: `kubeling attach -it web-1`."""
    if not words:
        raise CommandError("at least 1 argument is required for attach")
    if len(words) > 1:
        raise CommandError(f"expected POD, TYPE/NAME, or NAME, got {len(words)} arguments: {words}")
    pod = await pod_of(session, words[0])
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise CommandError(f"cannot attach a container in a completed pod; current phase is {phase}")
    return await attach_to(session, pod, container_of(pod, container, quiet=quiet), stdin=stdin, tty=tty, quiet=quiet)


async def attach_to(session: Session, pod: Obj, name: str, *, stdin: bool, tty: bool, quiet: bool) -> int:
    """Connect our standard streams with those of a container that runs, until it ends."""
    kinds = ("containers", "initContainers", "ephemeralContainers")
    spec = next(each for kind in kinds for each in pod["spec"].get(kind) or [] if each["name"] == name)
    if tty and not spec.get("tty"):
        print(f"error: Unable to use a TTY - container {name} did not allocate one", file=sys.stderr)
        tty = False
    tty = _with_terminal(tty)
    stdin = stdin and bool(spec.get("stdin"))
    if not quiet and stdin:
        print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
    query = [("container", name), ("stdout", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("tty", "true")] if tty else [] if spec.get("tty") else [("stderr", "true")]
    return await _session(session, pod, "attach", query, stdin=stdin, tty=tty)


async def attach_or_logs(
    session: Session, pod: Obj, name: str, *, stdin: bool, tty: bool, quiet: bool, timeout: float = 60
) -> None:
    """Wait until a container of a pod runs, and connect with it; where it has ended already, show what it wrote."""
    meta = pod["metadata"]

    def begun(found: Obj | None) -> bool:
        state = _state(found or {}, name)
        return found is None or "running" in state or "terminated" in state

    async with asyncio.timeout(timeout or None):
        await until(session, PODS, meta["name"], meta["namespace"], begun, must_exist=True)
    now = await session.client.get(PODS, meta["name"], meta["namespace"])
    if "running" in _state(now, name):
        try:
            await attach_to(session, now, name, stdin=stdin, tty=tty, quiet=quiet)
        except (ApiError, CommandError) as error:
            words = str(error).removeprefix("error: ")
            print(f"warning: couldn't attach to pod/{meta['name']}, falling back to streaming logs: {words}", file=sys.stderr)
        else:
            return
    path = PODS.path(meta["namespace"], meta["name"], "log")
    async for data in session.client.stream("GET", path, params={"container": name, "follow": True}):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _state(pod: Obj, container: str) -> Obj:
    """The state of a container, as the node told it last."""
    status = pod.get("status") or {}
    for kind in ("containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses"):
        for each in status.get(kind) or []:
            if each["name"] == container:
                return each.get("state") or {}
    return {}


def _with_terminal(wanted: bool) -> bool:
    """Whether there is a terminal to be used, where one is wanted; what keeps us from it is said."""
    if wanted and not sys.stdin.isatty():
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        return False
    return wanted


async def _session(session: Session, pod: Obj, subresource: str, query: list[tuple[str, str]], *, stdin: bool, tty: bool) -> int:
    """Connect our standard streams with those of the container until its command has ended; returns the command's exit status."""
    path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], subresource)
    async with connect(session.client.config, path, query, PROTOCOL) as socket:
        with _raw_terminal(socket) if tty else contextlib.nullcontext():
            if stdin:
                _pass_on(socket)
            status = await _output(socket)
    return _exit_status(status)


async def run_in(
    session: Session,
    pod: Obj,
    container: str,
    command: list[str],
    stdin: IO[bytes] | None,
    stdout: IO[bytes] | None,
    *,
    quiet: bool = False,
) -> int:
    """Run a command that reads a file and writes one (None for nothing, and for our own standard output). Returns its exit status, and says it unless `quiet`."""
    query = [*(("command", word) for word in command), ("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin is not None else []
    path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], "exec")
    async with connect(session.client.config, path, query, PROTOCOL) as socket:

        async def feed(source: IO[bytes]) -> None:
            with contextlib.suppress(OSError):  # The command has ended and wants no more: its status says why.
                while data := source.read(_PIECE):
                    await socket.send(STDIN + data)
                await socket.send(CLOSE + STDIN)

        sending = asyncio.create_task(feed(stdin)) if stdin is not None else None
        try:
            status = await _output(socket, stdout)
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    return _exit_status(status, quiet=quiet)


async def _output(socket: WebSocket, stdout: IO[bytes] | None = None) -> dict[str, Any]:
    """Write what the command writes; returns the Status that ends it."""
    streams = {STDOUT: stdout or sys.stdout.buffer, STDERR: sys.stderr.buffer}
    status: dict[str, Any] | None = None
    async for message in socket:
        channel, data = message[0], message[1:]
        if channel in streams:
            streams[channel].write(data)
            streams[channel].flush()
        elif channel == ERROR and data:
            status = orjson.loads(data)
    if status is None:
        raise CommandError("the connection ended before the command did: what became of it is not known")
    return status


def _exit_status(status: dict[str, Any], *, quiet: bool = False) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            if not quiet:
                print(f"command terminated with exit code {cause['message']}", file=sys.stderr)
            return int(cause["message"])
    raise CommandError(status.get("message") or "the command failed")


def _pass_on(socket: WebSocket) -> None:
    """Send standard input, piece by piece, from a thread: a file, a pipe and a terminal are all read the same way, and none can be read without blocking.

    The thread waits until a piece is sent before it reads the next; being a daemon thread, it keeps nobody from leaving.
    """
    loop = asyncio.get_running_loop()

    def work() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # The command ended first: nobody wants more.
            while data := os.read(sys.stdin.fileno(), _PIECE):
                asyncio.run_coroutine_threadsafe(socket.send(STDIN + data), loop).result()
            asyncio.run_coroutine_threadsafe(socket.send(CLOSE + STDIN), loop).result()

    threading.Thread(target=work, name="stdin", daemon=True).start()


@contextlib.contextmanager
def _raw_terminal(socket: WebSocket) -> Iterator[None]:
    """Our terminal passes every key on as it is, and its size follows; restored at the end."""
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def resize() -> None:
        size = shutil.get_terminal_size()
        body = orjson.dumps({"Width": size.columns, "Height": size.lines})
        task = loop.create_task(socket.send(RESIZE + body))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGWINCH, resize)
    resize()
    tty.setraw(file, termios.TCSADRAIN)  # Not the default, which throws away what was typed ahead.
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        termios.tcsetattr(file, termios.TCSADRAIN, before)
