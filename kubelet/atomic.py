"""Writing a volume's files so that readers see either all of the old ones or all of the new ones.

The files lie in a folder `..<time>`; the link `..data` points at it, and each visible name is a link through `..data`. An update writes a new
folder and moves `..data` to it with one rename. This is upstream's layout, on which programs that watch such volumes rely.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeling.kubelet.hostmounts import chown

_DATA = "..data"
_NEW = "..data_tmp"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be. `uid` None leaves the owner."""

    data: bytes
    mode: int
    uid: int | None = None


Payload = Mapping[str, File]


class UnsafePath(ValueError):
    """A path that would leave the volume."""


def write(volume: Path, payload: Payload, group: int | None = None) -> bool:
    """Make `volume` (an existing folder) hold exactly `payload`; whether anything had to change. `group` is the fsGroup."""
    for path in payload:
        _check(path)
    data = volume / _DATA
    if data.is_symlink() and _same(data, payload):
        _link(volume, payload)
        return False
    folder = Path(tempfile.mkdtemp(prefix=f"..{_stamp()}.", dir=volume))
    folder.chmod(0o755 if group is None else 0o2775)
    if group is not None:
        chown(folder, None, group)
        folder.chmod(0o2775)
    for path, file in payload.items():
        _write_file(folder, path, file, group)
    old = os.readlink(data) if data.is_symlink() else None
    new = volume / _NEW
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.rename(data)
    _link(volume, payload)
    _unlink(volume, payload)
    if old:
        shutil.rmtree(volume / old, ignore_errors=True)
    for left in volume.glob("..*"):
        # What an earlier kubelet was writing when it died.
        if left.is_dir() and not left.is_symlink() and left.name != folder.name:
            shutil.rmtree(left, ignore_errors=True)
    return True


def _stamp() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y_%m_%d_%H_%M_%S")


def _check(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "" in parts or parts[0].startswith(".."):
        raise UnsafePath(f"the path {path!r} must be relative and must not contain '..'")
    if len(path) > 4096 or any(len(part) > 255 for part in parts):
        raise UnsafePath(f"the path {path[:64]!r}… is too long")


def _same(data: Path, payload: Payload) -> bool:
    try:
        found = {str(each.relative_to(data)): each for each in data.rglob("*") if not each.is_dir()}
        if set(found) != set(payload):
            return False
        for path, file in payload.items():
            info = found[path].stat()
            if info.st_size != len(file.data) or file.mode & ~stat.S_IMODE(info.st_mode) or found[path].read_bytes() != file.data:
                return False
    except OSError:
        return False
    return True


def _write_file(folder: Path, path: str, file: File, group: int | None) -> None:
    target = folder / path
    for parent in reversed(target.relative_to(folder).parents[:-1]):
        inner = folder / parent
        if not inner.exists():
            inner.mkdir()
            if group is not None:
                chown(inner, None, group)
            inner.chmod(0o755 if group is None else 0o2775)
    mode = file.mode if group is None else file.mode | 0o440
    target.write_bytes(file.data)
    if file.uid is not None or group is not None:
        chown(target, file.uid, group)
    target.chmod(mode)


def _link(volume: Path, payload: Payload) -> None:
    for name in {path.split("/")[0] for path in payload}:
        link = volume / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")


def _unlink(volume: Path, payload: Payload) -> None:
    kept = {path.split("/")[0] for path in payload}
    for each in volume.iterdir():
        if each.is_symlink() and not each.name.startswith("..") and each.name not in kept:
            each.unlink()
