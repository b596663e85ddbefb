"""Volumes on a real file system: host paths, subPath against links, tmpfs, and taking it all away."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kubeling.kubelet import hostmounts
from kubeling.kubelet.volumes import VolumeProblem, host_path

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.mark.parametrize(
    ("kind", "there", "made"),
    [
        ("", "nothing", "directory"),
        ("", "file", "file"),
        ("Directory", "directory", "directory"),
        ("DirectoryOrCreate", "nothing", "directory"),
        ("File", "file", "file"),
        ("FileOrCreate", "nothing", "file"),
        ("Directory", "nothing", ""),
        ("Directory", "file", ""),
        ("File", "directory", ""),
        ("FileOrCreate", "directory", ""),
        ("Socket", "file", ""),
        ("Socket", "socket", "socket"),
        ("CharDevice", "file", ""),
    ],
)
def test_host_path_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, there: str, made: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    if there == "directory":
        path.mkdir()
    elif there == "file":
        path.touch()
    elif there == "socket":
        with socket.socket(socket.AF_UNIX) as made_socket:
            made_socket.bind("x")
    if not made:
        with pytest.raises(VolumeProblem, match="hostPath type check failed"):
            host_path(str(path), kind)
        return
    found = host_path(str(path), kind)
    assert {"directory": found.is_dir(), "file": found.is_file(), "socket": found.is_socket()}[made]


def test_a_sub_path_cannot_leave_its_volume(tmp_path: Path) -> None:
    """Links that whoever writes to the volume has put there are followed inside it only."""
    volume, secret = tmp_path / "volume", tmp_path / "secret"
    (volume / "real").mkdir(parents=True)
    secret.mkdir()
    (volume / "out").symlink_to(secret)
    (volume / "up").symlink_to("../secret")
    (volume / "in").symlink_to("real")
    for path in ("out", "up", "real/../../secret", "out/deeper"):
        with pytest.raises(OSError, match=r"."):
            hostmounts.pin(volume, path, None)
    assert hostmounts.pin(volume, "in", None) == str(volume / "real")
    assert hostmounts.pin(volume, "new/deep", None) == str(volume / "new" / "deep")
    assert not (secret / "deeper").exists()


@root_only
def test_what_is_mounted_from_elsewhere_is_never_deleted(tmp_path: Path) -> None:
    volume, pod = tmp_path / "volume", tmp_path / "pod"
    (volume / "data").mkdir(parents=True)
    (volume / "data" / "precious").touch()
    pod.mkdir()
    pinned = hostmounts.pin(volume, "data", pod / "sub" / "0")
    assert (Path(pinned) / "precious").exists()
    (pod / "memory").mkdir()
    assert hostmounts.mount_tmpfs(pod / "memory", 1 << 20)
    assert len(hostmounts.mounts_under(str(pod))) == 2
    hostmounts.remove_tree(pod)
    assert not pod.exists()
    assert (volume / "data" / "precious").exists()


@root_only
def test_a_group_can_use_its_volume(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "f").touch(mode=0o600)
    hostmounts.give_to_group(tmp_path / "d", 4321)
    assert ((tmp_path / "d").stat().st_gid, (tmp_path / "d" / "f").stat().st_gid) == (4321, 4321)
    assert oct((tmp_path / "d").stat().st_mode)[-4:] == "2770"
    assert oct((tmp_path / "d" / "f").stat().st_mode)[-3:] == "660"
