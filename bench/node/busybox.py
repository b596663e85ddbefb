"""An image of Debian's static busybox, so that a node on another runtime needs no registry."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(path: Path, *names: str, files: int = 0, size: int = 0) -> None:
    """Write a docker archive of an image with all of busybox's applets, called `names`, and `files` more of `size` bytes. It is also good as a sandbox's
    image."""
    layer = _layer(files, size)
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(_machine(), _machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    digest = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": list(names), "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        _file(tar, f"{digest}.json", config)
        _file(tar, "layer.tar", layer)
        _file(tar, "manifest.json", json.dumps(manifest).encode())


def _layer(files: int, size: int) -> bytes:
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox is not installed: apt-get install busybox-static")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        _file(tar, "bin/busybox", Path(program).read_bytes(), 0o755)
        _file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        for name in subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split():
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for number in range(files):
            _file(tar, f"var/file-{number}", os.urandom(size))
    return buffer.getvalue()


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def _machine() -> str:
    return subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
