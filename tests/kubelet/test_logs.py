"""Reading and rotating container logs."""

from __future__ import annotations

import asyncio
import gzip
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kubeling.daemon.clock import VirtualClock
from kubeling.kubelet import logs
from kubeling.kubelet.logrotate import CHECK_SECONDS, LogRotator
from kubeling.kubelet.podfiles import tail_of_log
from kubeling.kubelet.podstate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID

from .builders import NOW

LINES = [b"2026-01-01T12:00:0%d.000000001Z stdout F line %d\n" % (number, number) for number in range(6)]


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


async def read(path: Path, **query: str) -> str:
    async def running() -> bool:
        return False

    wanted = logs.options(query, NOW)
    return b"".join([each async for each in logs.read(logs.open_current(path), path, wanted, running, asyncio.Event())]).decode()


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, "".join(f"line {each}\n" for each in range(6))),
        ({"tailLines": "2"}, "line 4\nline 5\n"),
        ({"tailLines": "0"}, ""),
        ({"tailLines": "99"}, "".join(f"line {each}\n" for each in range(6))),
        ({"limitBytes": "9"}, "line 0\nli"),
        ({"sinceTime": "2026-01-01T12:00:04Z"}, "line 4\nline 5\n"),
        ({"tailLines": "1", "timestamps": "true"}, "2026-01-01T12:00:05.000000001Z line 5\n"),
        ({"tailLines": "1", "stream": "Stderr"}, ""),
    ],
)
async def test_options(tmp_path: Path, query: dict[str, str], wanted: str) -> None:
    assert await read(write(tmp_path / "0.log", *LINES), **query) == wanted


async def test_a_log_that_is_just_being_rotated_is_the_one_that_was_rotated_away(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        logs.open_current(tmp_path / "0.log")
    write(tmp_path / "0.log.20260101-120000-000001", *LINES[:2])
    write(tmp_path / "0.log.20260101-120000-000002", *LINES[2:4])
    write(tmp_path / "0.log.20260101-120000-000003.tmp", b"a part")
    write(tmp_path / "0.log.20260101-120000-000000.gz", b"compressed")
    assert await read(tmp_path / "0.log") == "line 2\nline 3\n"
    write(tmp_path / "0.log", *LINES[4:])
    assert await read(tmp_path / "0.log") == "line 4\nline 5\n"


async def test_a_log_that_grows_while_it_is_read_has_an_end(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", *LINES)

    async def running() -> bool:
        return True

    found = b""
    async for chunk in logs.read(logs.open_current(path), path, logs.Options(tail=2), running, asyncio.Event()):
        found += chunk
        assert len(found) < 1000
        with open(path, "ab") as file:
            file.write(LINES[0])
    assert found == b"line 4\nline 5\n"


def test_the_last_lines_are_those_of_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", *LINES)
    size = len(b"".join(LINES[:3]))
    with open(path, "rb") as file:
        for tail in range(4):
            file.seek(logs.tail_offset(file, tail, size))
            assert file.read(size - file.tell()) == b"".join(LINES[3 - tail : 3])


async def test_since_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", *LINES)
    found = logs.options({"sinceSeconds": "5"}, NOW + timedelta(seconds=8))
    assert found.since == NOW + timedelta(seconds=3)
    assert await read(path, sinceTime="2026-01-01T12:00:03.5Z") == "line 4\nline 5\n"


async def test_partial_lines_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", b"2026-01-01T12:00:00Z stdout P a\n", b"2026-01-01T12:00:00Z stdout F b\n")
    assert await read(path) == "ab\n"


@pytest.mark.parametrize("query", [{"tailLines": "x"}, {"sinceTime": "noon"}])
def test_bad_options(query: dict[str, str]) -> None:
    with pytest.raises(logs.BadOptions):
        logs.options(query, NOW)


async def test_following_over_a_rotation_to_the_end(tmp_path: Path) -> None:
    """No line is lost when the file is renamed under the reader, and the end of the container is the end of the log."""
    path = write(tmp_path / "0.log", LINES[0])
    alive, nudge = [True], asyncio.Event()

    async def running() -> bool:
        return alive[0]

    found: list[bytes] = []

    async def collect() -> None:
        async for each in logs.read(logs.open_current(path), path, logs.Options(follow=True), running, nudge):
            found.append(each)

    reader = asyncio.ensure_future(collect())
    await until(lambda: b"".join(found) == b"line 0\n")
    with open(path, "ab") as file:
        file.write(LINES[1])
    await until(lambda: b"".join(found) == b"line 0\nline 1\n")
    path.rename(tmp_path / "0.log.old")
    with open(tmp_path / "0.log.old", "ab") as file:
        file.write(LINES[2])
    write(path, LINES[3])
    await until(lambda: b"".join(found).endswith(b"line 2\nline 3\n"))
    with open(path, "ab") as file:
        file.write(LINES[4])
    alive[0] = False
    nudge.set()
    await asyncio.wait_for(reader, 5)
    assert b"".join(found).endswith(b"line 3\nline 4\n")


async def until(check: object, seconds: float = 5.0) -> None:
    assert callable(check)
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - it is the condition that is waited for
            await asyncio.sleep(0.01)


def test_the_tail_for_termination_messages(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", *(b"2026-01-01T12:00:00Z stdout F %s\n" % (b"x" * 100) for _ in range(200)))
    assert len(tail_of_log(path)) <= 2048
    assert tail_of_log(write(tmp_path / "1.log", *LINES)) == "".join(f"line {each}\n" for each in range(6))
    assert tail_of_log(tmp_path / "none.log") == ""


async def test_the_faster_a_log_grows_the_sooner_it_is_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "n_p_u" / "c"
    folder.mkdir(parents=True)
    path = folder / "0.log"
    begun = NOW
    rotated: list[float] = []
    looks: list[float] = []

    class Clock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            """The flood goes on for half a minute, a kilobyte a second."""
            if len(looks) > 100:
                raise asyncio.CancelledError
            looks.append(seconds)
            await self.advance(seconds)
            written = path.read_bytes() if path.exists() else b""
            path.write_bytes(written + b"x" * int(seconds * 1000))

    async def reopen(_: str) -> None:
        rotated.append((context.clock.now() - begun).total_seconds())
        path.touch()

    async def containers() -> list[Any]:
        labels = {POD_NAMESPACE: "n", POD_NAME: "p", POD_UID: "u", CONTAINER_NAME: "c"}
        return [SimpleNamespace(id="id", state=1, labels=labels, metadata=SimpleNamespace(attempt=0))]

    runtime = SimpleNamespace(reopen_log=reopen, list_containers=containers)
    context: Any = SimpleNamespace(clock=Clock(NOW), runtime=runtime, config=SimpleNamespace(logs_dir=tmp_path))
    with pytest.raises(asyncio.CancelledError):
        await LogRotator(context, max_size=500, max_files=3).run()
    assert looks[0] == CHECK_SECONDS
    assert all(each <= 0.5 for each in looks[1:])
    assert len(rotated) > 40


async def test_rotated_logs_are_few_in_order_and_never_larger_than_all_may_be(tmp_path: Path) -> None:
    folder = tmp_path / "n_p_u" / "c"
    folder.mkdir(parents=True)
    path = folder / "0.log"

    async def reopen(_: str) -> None:
        path.touch()

    context: Any = SimpleNamespace(clock=VirtualClock(NOW), runtime=SimpleNamespace(reopen_log=reopen))
    rotator = LogRotator(context, max_size=100, max_files=3)
    (folder / "0.log.20250101-000000-000000.tmp").write_bytes(b"half")
    for number in range(5):
        path.write_bytes(b"%d" % number * 200)
        await rotator.rotate("id", path)
        # A clock that is set back changes no order.
        context.clock = VirtualClock(NOW - timedelta(hours=number + 1))
    found = sorted(each.name for each in folder.iterdir())
    assert len(found) == 3
    assert found[1].endswith(".gz")
    assert gzip.decompress((folder / found[1]).read_bytes()) == b"3" * 200
    assert (folder / found[2]).read_bytes() == b"4" * 200
    path.write_bytes(b"5" * 301)
    await rotator.rotate("id", path)
    path.write_bytes(b"6" * 10)
    await rotator.rotate("id", path)
    assert not [each for each in folder.glob("*.gz") if b"5" in gzip.decompress(each.read_bytes())]
