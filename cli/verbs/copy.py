"""`cp`: files to and from containers. `tar` does it, on both sides: the container has to have one."""

from __future__ import annotations

import asyncio
import sys
import tarfile
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import typer

from kubeling.api.resources import PODS
from kubeling.cli.session import CommandError, Session
from kubeling.cli.verbs.execute import run_in
from kubeling.cli.verbs.logs import container_of

#: Runs a command in the container: its words, what it reads and where it writes.
_Run = Callable[[list[str], "IO[bytes] | None", "IO[bytes] | None"], Awaitable[int]]
_IN_MEMORY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """A path here (no pod), or in a pod."""

    path: str
    pod: str = ""
    namespace: str = ""


async def copy(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FILE | [NAMESPACE/]POD:FILE")],
    target: Annotated[str, typer.Argument(metavar="FILE | [NAMESPACE/]POD:FILE")],
    container: Annotated[str, typer.Option("-c", "--container", help="Which container.")] = "",
    no_preserve: Annotated[bool, typer.Option("--no-preserve", help="Without the files' owners and permissions.")] = False,
) -> int:
    """Copy files and folders to or from a container: `kubeling cp notes.txt web-1:/tmp/notes.txt`."""
    here, there = _place(source), _place(target)
    if here.pod and there.pod:
        raise CommandError("one of src or dest must be a local file specification")
    if not here.pod and not there.pod:
        raise CommandError("one of src or dest must be a remote file specification")
    if not here.path or not there.path:
        raise CommandError("filepath can not be empty")
    place = here if here.pod else there
    pod = await session.client.get(PODS, place.pod, place.namespace or session.namespace)
    name = container_of(pod, container)

    async def run(command: list[str], stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> int:
        return await run_in(session, pod, name, command, stdin, stdout, quiet=command[0] == "test")

    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
        if there.pod:
            return await _up(run, Path(here.path), there.path, archive, no_preserve)
        return await _down(run, here.path, Path(there.path), archive)


def _place(text: str) -> _Place:
    before, colon, path = text.partition(":")
    if not colon or before.startswith((".", "/")):
        return _Place(text)
    namespace, slash, pod = before.rpartition("/")
    if not pod or "/" in namespace:
        raise CommandError("filespec must match the canonical format: [[namespace/]pod:]file/path")
    return _Place(path, pod, namespace if slash else "")


async def _up(run: _Run, source: Path, target: str, archive: IO[bytes], no_preserve: bool) -> int:
    name, wanted = _name_of(source), PurePosixPath(target)
    if target.endswith("/") or await run(["test", "-d", target], None, None) == 0:
        wanted /= name
    await asyncio.to_thread(_pack, source, str(wanted.name), archive)
    archive.seek(0)
    flags = ["--no-same-permissions", "--no-same-owner"] if no_preserve else []
    return await run(["tar", *flags, "-xmf", "-", "-C", str(wanted.parent)], archive, None)


def _name_of(source: Path) -> str:
    if not source.exists():
        raise CommandError(f"{source} doesn't exist in local filesystem")
    return source.resolve().name


def _pack(source: Path, name: str, archive: IO[bytes]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(source, name)


async def _down(run: _Run, source: str, target: Path, archive: IO[bytes]) -> int:
    status = await run(["tar", "cf", "-", source], None, archive)
    if status:
        return status
    archive.seek(0)
    await asyncio.to_thread(_unpack, archive, source.strip("/").removeprefix("./"), target)
    return 0


def _unpack(archive: IO[bytes], source: str, target: Path) -> None:
    """What is at `source` in the archive comes to `target`, or into it where that is a folder. Nothing gets out of there: who can write in a pod may have made it."""
    if target.is_dir():
        target /= PurePosixPath(source).name
    with tarfile.open(fileobj=archive, mode="r") as tar:
        for member in tar:
            inside = member.name.lstrip("/").removeprefix("./")
            if inside != source and not inside.startswith(f"{source}/"):
                continue
            rest = inside.removeprefix(source).lstrip("/")
            if member.issym() or member.islnk():
                print(f"warning: skipping symlink: {inside!r} -> {member.linkname!r}", file=sys.stderr)
                continue
            if ".." in PurePosixPath(rest).parts:
                raise CommandError(f"the archive of the pod has a path that leads out of it: {member.name!r}")
            place = target / rest if rest else target
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                place.parent.mkdir(parents=True, exist_ok=True)
                data = tar.extractfile(member)
                assert data is not None
                with data, place.open("wb") as out:
                    while piece := data.read(1 << 20):
                        out.write(piece)
                place.chmod(member.mode & 0o777)
