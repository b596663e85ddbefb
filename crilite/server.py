"""The daemon: parts put together, the socket opened, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc.aio

from kubeling.crilite import cgroups, views
from kubeling.crilite.cni_network import CniNetwork
from kubeling.crilite.config import Config
from kubeling.crilite.containers import Containers
from kubeling.crilite.core import Core
from kubeling.crilite.errors import CriError
from kubeling.crilite.execs import Execs
from kubeling.crilite.keeper_client import KeeperClient, KeeperError
from kubeling.crilite.network import LoopbackNetwork, PodNetwork, PtpNetwork
from kubeling.crilite.recovery import agree_on_containers, end_strays, recover
from kubeling.crilite.sandboxes import Sandboxes
from kubeling.crilite.service import ImageService, RuntimeService
from kubeling.crilite.stats import Stats
from kubeling.crilite.streaming import StreamingServer
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError
from kubeling.daemon.memory import give_back_large
from kubeling.proto import cri_pb2_grpc

log = get_logger("crilite")

_MAX_MESSAGE = 16 << 20


async def run(config: Config, *, ready: asyncio.Event | None = None) -> None:
    """Serve CRI until cancelled. Containers go on running after that."""
    give_back_large()
    for folder in (config.root, config.state):
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    backend, problem = cgroups.detect(config.cgroup_root.rstrip("/") or "/kubeling")
    if problem:
        log.warning("limits are accepted but not enforced", reason=problem)
    events: dict[str, Any] = {}
    keeper = KeeperClient(str(config.state), lambda event: events[event["event"]](event), lambda: events["lost"]({}))
    network: PodNetwork = PtpNetwork()
    if config.cni_conf_dir is not None:
        network = CniNetwork(config.cni_conf_dir, config.cni_bin_dirs, config.root / "cni")
    core = Core(config, keeper, backend, problem, network, LoopbackNetwork(config.pod_address_range))
    containers = Containers(core)
    sandboxes = Sandboxes(core, containers)
    execs = Execs(core)
    core.snapshot = lambda sandbox: views.snapshot(core, sandbox)
    tasks: set[asyncio.Task[None]] = set()

    def in_background(work: Coroutine[Any, Any, None]) -> None:
        async def logged() -> None:
            try:
                await work
            except (CriError, KeeperError, OSError) as error:
                log.warning("cleaning up after an unexpected end failed", error=error)

        task = asyncio.create_task(logged())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def exited(event: dict[str, Any]) -> None:
        sandbox = core.sandboxes.get(event["container"])
        if sandbox is not None:
            in_background(sandboxes.pause_ended(sandbox))
        elif event["container"] in core.containers:
            containers.ended(event["container"], event)
        else:
            # A stray that was ended after a start. Only now has the keeper written its last word into that folder.
            in_background(asyncio.to_thread(shutil.rmtree, core.container_state(event["container"]), ignore_errors=True))

    events["exit"] = exited
    events["lost"] = lambda _event: execs.all_lost()
    events["session-exit"] = lambda event: execs.ended(event["session"], event["code"])
    held = await keeper.connect()
    core.load_pod_cidr()
    await recover(core, sandboxes, containers, held)

    def reconnected(held: dict[str, int]) -> None:
        agree_on_containers(core, containers, held)
        in_background(end_strays(core, held))

    streaming = StreamingServer(core, execs)
    streams = await streaming.start(config.stream_address, config.stream_port)
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
    )
    service = RuntimeService(core, sandboxes, containers, execs, Stats(core), streaming)
    cri_pb2_grpc.add_RuntimeServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    cri_pb2_grpc.add_ImageServiceServicer_to_server(ImageService(core), server)  # type: ignore[no-untyped-call]
    _open(server, config.listen)
    await server.start()
    log.info("serving", listen=config.listen, cgroups=backend.name, handlers=",".join(config.handlers))
    if ready is not None:
        ready.set()
    try:
        await keeper.run(reconnected)
    finally:
        streams.close()
        await server.stop(0.2)
        keeper.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_socket_path(config.listen))


def _socket_path(listen: str) -> str:
    return listen.removeprefix("unix://")


def _open(server: grpc.aio.Server, listen: str) -> None:
    path = _socket_path(listen)
    if not os.path.isabs(path):
        raise UsageError(f"--listen {listen}: give an absolute path, as in unix:///run/kubeling/crilite.sock")
    if len(os.fsencode(path)) > 107:
        raise UsageError(
            f"--listen {listen}: the path of a Unix socket may have 107 bytes, this one has {len(os.fsencode(path))}"
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except OSError:
        # Nobody listens: what lies there is left over.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    else:
        raise UsageError(f"--listen {listen}: another daemon is serving there")
    finally:
        probe.close()
    server.add_insecure_port(f"unix://{path}")
    os.chmod(path, 0o660)
