"""Layers: from the tar of an image to a directory that overlayfs takes as a lower one.

A tar says with names what overlayfs says with inodes: ``.wh.x`` means that x is gone and becomes a character device 0/0, ``.wh..wh..opq`` that
nothing below shows through and becomes an extended attribute. An archive is not trusted: no path in it leads out of its directory, neither by
``..`` nor through a symbolic link that it made before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from typing import BinaryIO, cast

from kubeling.crilite.errors import CriError

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MAX_LINKS = 40
_CHUNK = 1 << 20


def chain_id(parent: str, diff_id: str) -> str:
    """The name of a layer on top of `parent` (empty for the first), as the OCI image specification defines it."""
    return diff_id if not parent else "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


def opaque_attribute(userxattr: bool) -> str:
    return "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"


class _Hashing:
    """Reads through, and knows the digest of what went by."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        while self.read(_CHUNK):
            pass
        return "sha256:" + self._hash.hexdigest()


def unpack(source: BinaryIO, target: str, parents: Sequence[str], diff_id: str, *, userxattr: bool) -> None:
    """Unpack the uncompressed tar `source` to the new directory `target`. `parents`: the layers below, nearest first.

    Raises CriError if the content is not what `diff_id` names.
    """
    stream = _Hashing(source)
    os.mkdir(target, 0o755)
    root = _Root(target, parents, userxattr)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
            for member in archive:
                root.add(archive, member)
    except tarfile.TarError as error:
        raise CriError(f"layer {diff_id} is not a readable tar: {error}") from error
    root.finish()
    if stream.digest() != diff_id:
        raise CriError(f"layer {diff_id} has other content than its name says")


class _Root:
    def __init__(self, path: str, parents: Sequence[str], userxattr: bool) -> None:
        self._path = path
        self._parents = parents
        self._userxattr = userxattr
        self._directories: list[tuple[str, float]] = []

    def _inside(self, name: str) -> list[str]:
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                if parts:
                    parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return parts

    def _folder(self, parts: list[str]) -> str:
        """The real directory for `parts`, made where it is missing, with symbolic links taken as they are inside the container."""
        queue, links = list(parts), 0
        done: list[str] = []
        while queue:
            part = queue.pop(0)
            if part == "..":
                if done:
                    done.pop()
                continue
            path = os.path.join(self._path, *done, part)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                os.mkdir(path, 0o755)
                self._copy_directory_mode([*done, part], path)
                done.append(part)
                continue
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MAX_LINKS:
                    raise CriError(f"too many symbolic links at {'/'.join(parts)}")
                goal = os.readlink(path)
                if goal.startswith("/"):
                    done = []
                queue[:0] = [piece for piece in goal.split("/") if piece not in ("", ".")]
            elif stat.S_ISDIR(mode):
                done.append(part)
            else:
                os.unlink(path)
                os.mkdir(path, 0o755)
                done.append(part)
        return os.path.join(self._path, *done)

    def _copy_directory_mode(self, parts: list[str], path: str) -> None:
        """A directory that the tar does not mention keeps what it is in the layers below."""
        for parent in self._parents:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(parent, *parts))
                if stat.S_ISDIR(info.st_mode):
                    os.chmod(path, stat.S_IMODE(info.st_mode))
                    os.chown(path, info.st_uid, info.st_gid)
                    return

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._inside(member.name)
        if not parts:
            self._attributes(self._path, member)
            return
        folder, name = self._folder(parts[:-1]), parts[-1]
        if name == _OPAQUE:
            os.setxattr(folder, opaque_attribute(self._userxattr), b"y")
            return
        if name.startswith(_WHITEOUT):
            path = os.path.join(folder, name.removeprefix(_WHITEOUT))
            self._clear(path)
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            return
        path = os.path.join(folder, name)
        if not (member.isdir() and os.path.isdir(path) and not os.path.islink(path)):
            self._clear(path)
        if self._make(archive, member, path):
            self._attributes(path, member)

    @staticmethod
    def _clear(path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bool:
        """Whether there is something new that needs its attributes."""
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            self._hard_link(member.linkname, path)
            return False
        elif member.isfifo():
            os.mkfifo(path)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            try:
                os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
            except PermissionError:
                return False  # Not ours to make in a user namespace; a container's devices come from the runtime anyway.
        else:
            content = archive.extractfile(member)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as out:
                if content is not None:
                    shutil.copyfileobj(content, out, _CHUNK)
        return True

    def _hard_link(self, linkname: str, path: str) -> None:
        parts = self._inside(linkname)
        if not parts:
            raise CriError(f"a hard link to nothing: {linkname!r}")
        source = os.path.join(self._folder(parts[:-1]), parts[-1])
        if os.path.lexists(source):
            os.link(source, path, follow_symlinks=False)
            return
        for parent in self._parents:
            below = os.path.join(parent, *parts)
            if os.path.lexists(below) and not os.path.isdir(below) and os.path.realpath(below).startswith(parent):
                # The file is in a layer below: there can be no link between layers, so it is brought up.
                shutil.copy2(below, source, follow_symlinks=False)
                info = os.lstat(below)
                os.lchown(source, info.st_uid, info.st_gid)
                os.link(source, path, follow_symlinks=False)
                return
        raise CriError(f"a hard link to {linkname!r}, which is not there")

    def _attributes(self, path: str, member: tarfile.TarInfo) -> None:
        try:
            os.lchown(path, member.uid, member.gid)
        except OSError as error:
            # As an ordinary user, or in a user namespace that does not map the owner: then it is ours.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                with contextlib.suppress(OSError):
                    name = key.removeprefix("SCHILY.xattr.")
                    if not name.startswith(("trusted.overlay.", "user.overlay.")):
                        os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        if member.isdir():
            self._directories.append((path, member.mtime))
        else:
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)

    def finish(self) -> None:
        """The times of directories, now that nothing is added to them any more."""
        for path, when in reversed(self._directories):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (when, when))


def flatten(layers: Sequence[str], target: str, *, userxattr: bool, link: bool = False) -> None:
    """Copy `layers` (lowest first) over each other into `target`: for where overlayfs is not allowed. With `link` files are linked where they can be: the
    copy must never be written to then."""
    for layer in layers:
        for folder, names, files in os.walk(layer):
            inner = os.path.relpath(folder, layer)
            goal = os.path.normpath(os.path.join(target, inner))
            with contextlib.suppress(OSError):
                if os.getxattr(folder, opaque_attribute(userxattr)) == b"y":
                    shutil.rmtree(goal, ignore_errors=True)
            os.makedirs(goal, exist_ok=True)
            shutil.copystat(folder, goal)
            _take_owner(folder, goal)
            for name in [*files, *(name for name in names if os.path.islink(os.path.join(folder, name)))]:
                _copy_entry(os.path.join(folder, name), os.path.join(goal, name), link=link)


def _take_owner(source: str, target: str) -> None:
    info = os.lstat(source)
    with contextlib.suppress(PermissionError):
        os.lchown(target, info.st_uid, info.st_gid)


def _copy_entry(source: str, target: str, *, link: bool) -> None:
    info = os.lstat(source)
    _Root._clear(target)
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        return
    if link and stat.S_ISREG(info.st_mode):
        with contextlib.suppress(OSError):  # Not everybody may link to files of others, and there may be too many links.
            os.link(source, target)
            return
    if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
        shutil.copy2(source, target, follow_symlinks=False)
    elif stat.S_ISFIFO(info.st_mode):
        os.mkfifo(target, stat.S_IMODE(info.st_mode))
    else:
        return
    _take_owner(source, target)
