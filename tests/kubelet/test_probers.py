"""Probes as they are run: what counts, what is only told, and of whom it is told."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from kubeling.daemon.clock import SystemClock
from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.handlers import Target, ask
from kubeling.kubelet.probers import PodProbes, Running
from kubeling.kubelet.stopping import run_hook
from kubeling.kubelet.waiting import beside

from .builders import container


class Shell:
    """Answers commands as it is told to: by an exit code, or by what the runtime complains of."""

    def __init__(self, answer: int | RuntimeFailure) -> None:
        self.answer = answer

    async def exec_sync(self, container_id: str, command: list[str], timeout: float) -> tuple[int, bytes]:
        if isinstance(self.answer, RuntimeFailure):
            raise self.answer
        return self.answer, b"words"


async def first_words(answer: int | RuntimeFailure, handler: dict[str, Any]) -> tuple[str, str]:
    """What the first probe makes known, and what has failed by then; once is enough to fail."""
    told: asyncio.Queue[str] = asyncio.Queue()
    probes = PodProbes(Shell(answer), SystemClock(), lambda: None, lambda *words: told.put_nowait(words[3]))  # type: ignore[arg-type]
    probed = container("web", livenessProbe={**handler, "failureThreshold": 1})
    probes.follow({"web-0": Running(probed, "127.0.0.1", time.time())})
    try:
        words = await asyncio.wait_for(told.get(), 20)
        await asyncio.sleep(0)
        return words, probes.failed("web-0")
    finally:
        probes.close()


RUN = {"exec": {"command": ["sleep", "9"]}, "periodSeconds": 1}
UNKNOWN = "Liveness probe errored and resulted in unknown state: "


@pytest.mark.parametrize(
    ("answer", "handler", "words", "failed"),
    [
        (1, RUN, "Liveness probe failed: words", "liveness"),
        (RuntimeFailure("UNAVAILABLE", "gone"), RUN, UNKNOWN + "rpc error: code = Unavailable desc = gone", ""),
        (0, {"httpGet": {"port": "nosuch"}, "periodSeconds": 1}, UNKNOWN + "couldn't find port: nosuch", ""),
        (
            RuntimeFailure("DEADLINE_EXCEEDED", "late"),
            RUN,
            'Liveness probe failed: command timed out: "sleep 9" timed out after 1s',
            "liveness",
        ),
    ],
)
async def test_what_could_not_be_asked_does_not_count(
    answer: int | RuntimeFailure, handler: dict[str, Any], words: str, failed: str
) -> None:
    """A runtime that is away, or a port that nobody has named, is not the container's failure: nothing is restarted for it."""
    assert await first_words(answer, handler) == (words, failed)


async def test_a_hook_wants_an_answer_and_not_a_good_one() -> None:
    """As upstream: the status of what answers an HTTP hook is nobody's business, and nothing that answers is a failure."""

    async def no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    context = cast("Any", SimpleNamespace(runtime=None, clock=SystemClock()))
    server = await asyncio.start_server(no, "127.0.0.1", 0)
    hook = {"httpGet": {"port": server.sockets[0].getsockname()[1]}}
    assert (await run_hook(context, {}, "c", hook, "127.0.0.1", 20)).success
    server.close()
    assert not (await run_hook(context, {}, "c", hook, "127.0.0.1", 20)).success


async def test_what_changes_beside_a_longer_work_is_told() -> None:
    event, told = asyncio.Event(), asyncio.Event()
    event.set()  # Of before: nobody has to be told any more.
    times = 0

    async def tell() -> None:
        nonlocal times
        times += 1
        told.set()

    async def work() -> str:
        for _ in range(3):
            event.set()
            await told.wait()
            told.clear()
        return "done"

    assert await beside(work(), event, tell) == "done"
    assert times == 3


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, ""),
        (
            grpc.StatusCode.UNIMPLEMENTED,
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): no",
        ),
        (grpc.StatusCode.NOT_FOUND, "error: health rpc probe failed: rpc error: code = NotFound desc = no"),
    ],
)
async def test_the_words_of_grpc_probes(code: grpc.StatusCode | None, words: str) -> None:
    agents: list[str] = []

    async def check(request: bytes, context: Any) -> bytes:
        agents.append(dict(context.invocation_metadata())["user-agent"].split()[0])
        if code is not None:
            await context.abort(code, "no")
        return b"\x08\x01"

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    target, probe = Target({}, "c", "127.0.0.1"), {"grpc": {"port": port}}
    answer = await ask(probe, target, cast("Any", None), 20, "kube-probe/1.33")
    await server.stop(None)
    assert (answer.success, answer.words) == (code is None, words)
    assert agents == ["kube-probe/1.33"]
    refused = await ask(probe, target, cast("Any", None), 20, "kube-probe/1.33")
    assert refused.words.startswith(f'error: failed to connect service at "127.0.0.1:{port}": ')
