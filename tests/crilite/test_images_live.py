"""Images of archives and registries, run."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kubeling.proto import cri_pb2 as cri
from tests.crilite import archives
from tests.crilite.conftest import Cri, Node

pytestmark = [pytest.mark.live, pytest.mark.root]

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="module")
def layers() -> list[bytes]:
    if not BUSYBOX.exists():
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    base = archives.layer(
        ("bin/", None),
        ("bin/busybox", BUSYBOX.read_bytes()),
        *(archives.link(f"bin/{name}", "busybox") for name in ("sh", "cat", "ls", "id", "sleep", "stat", "pwd")),
        ("etc/", None),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:1000:2000::/home/web:/bin/sh\n"),
        ("etc/group", b"root:x:0:\nweb:x:2000:\nextra:x:3000:web\n"),
        ("data/", None),
        ("data/old", b"old"),
        ("data/changed", b"before"),
        ("gone/", None),
        ("gone/file", b"x"),
    )
    upper = archives.layer(
        ("data/.wh.old", b""),
        ("data/changed", b"after"),
        ("gone/", None),
        ("gone/.wh..wh..opq", b""),
        ("gone/new", b"n"),
        archives.link("data/hard", "bin/busybox", hard=True),
    )
    return [base, upper]


def load(node: Node, path: Path) -> str:
    command = [sys.executable, "-m", "kubeling.crilite", "image", f"--root={node.root}", "load", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_an_archive_runs(client: Cri, node: Node, layers: list[bytes], tmp_path: Path) -> None:
    values = {
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["id; pwd; echo $FROM"],
        "Env": ["PATH=/bin", "FROM=image"],
        "WorkingDir": "/data",
        "User": "web",
    }
    archives.oci(tmp_path / "oci.tar", "example.org/box:1", layers, **values)
    assert "example.org/box:1" in load(node, tmp_path / "oci.tar")
    text = await client.output(image="example.org/box:1")
    assert text == "uid=1000(web) gid=2000(web) groups=2000(web),3000(extra)\n/data\nimage\n"
    script = "cat changed; ls -A /data /gone; echo x > /data/mine; stat -c %s hard"
    linux = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(run_as_user=cri.Int64Value(value=0)))
    linux.security_context.namespace_options.pid = cri.CONTAINER
    text = await client.output("sh", "-c", script, image="example.org/box:1", linux=linux)
    assert text == f"after/data:\nchanged\nhard\n\n/gone:\nnew\n{BUSYBOX.stat().st_size}\n"

    answer = await client.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image="example.org/box:1")))
    assert list(answer.image.repo_tags) == ["example.org/box:1"]
    assert answer.image.username == "web"
    assert answer.image.size > 0
    pulled = await client.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image=answer.image.repo_digests[0])))
    assert pulled.image_ref == answer.image.repo_digests[0]
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image="example.org/box:1")))
    answer = await client.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image="example.org/box:1")))
    assert not answer.HasField("image")


async def test_what_docker_saves_runs_and_is_removed(client: Cri, node: Node, layers: list[bytes], tmp_path: Path) -> None:
    archives.docker(tmp_path / "docker.tgz", "saved:2", layers, Cmd=["sleep", "1000"], Env=["PATH=/bin"])
    load(node, tmp_path / "docker.tgz")
    sandbox, container = await client.pod(image="docker.io/library/saved:2")
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image="saved:2")))
    # It has no name any more, and its files are there for as long as the container.
    assert (await client.exec(container, "cat", "/data/changed"))[1] == "after"
    listed = (await client.images.ListImages(cri.ListImagesRequest())).images
    assert [tag for image in listed for tag in image.repo_tags] == ["kubeling.local/host:latest"]
    await client.clean()
    load(node, tmp_path / "docker.tgz")
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image="saved:2")))
    assert not list((node.root / "images" / "layers").iterdir())
    assert not list((node.root / "images" / "blobs" / "sha256").iterdir())
    assert sandbox


async def test_a_layer_cannot_leave_its_directory(node: Node, tmp_path: Path, layers: list[bytes]) -> None:
    target = tmp_path / "outside"
    target.mkdir()
    evil = archives.layer(
        archives.link("way", str(target)), ("way/file", b"x"), ("../../../../../../escaped", b"x"), ("/absolute", b"x")
    )
    archives.oci(tmp_path / "evil.tar", "example.org/evil:1", [evil])
    load(node, tmp_path / "evil.tar")
    assert not list(target.iterdir())
    assert not (tmp_path / "escaped").exists()
    lying = archives.oci(tmp_path / "lie.tar", "example.org/lie:1", layers)
    data = (tmp_path / "lie.tar").read_bytes()
    changed = lying["manifest"].replace(b'"schemaVersion": 2', b'"schemaVersion": 3')
    (tmp_path / "lie.tar").write_bytes(data.replace(lying["manifest"], changed))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        load(node, tmp_path / "lie.tar")
    assert "does not match its digest" in caught.value.stderr


class Registry(ThreadingHTTPServer):
    """As little of a registry as a client can tell from a whole one."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs = blobs
        self.mode = "open"
        self.broken = 0


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, *args: Any) -> None:
        return None

    def do_GET(self) -> None:
        registry = self.server
        wanted = {"basic": "Basic " + base64.b64encode(b"me:secret").decode(), "bearer": "Bearer tok"}.get(registry.mode)
        if self.path.startswith("/token"):
            good = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode()
            return self._answer(200 if good else 401, json.dumps({"token": "tok"}).encode())
        if wanted and self.headers.get("Authorization") != wanted:
            realm = f"http://127.0.0.1:{registry.server_port}/token"
            challenge = (
                'Basic realm="r"'
                if registry.mode == "basic"
                else f'Bearer realm="{realm}",service="s",scope="repository:team/box:pull"'
            )
            return self._answer(401, b"{}", {"WWW-Authenticate": challenge})
        kind, name = self.path.split("/")[-2:]
        data = registry.blobs.get("manifest" if kind == "manifests" and name == "v1" else name)
        if data is None:
            return self._answer(404, b"{}")
        if kind == "manifests":
            return self._answer(200, data, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        if registry.mode == "lying":
            data = data[:-1] + b"!"
        if registry.broken:
            registry.broken -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self._answer(200, data)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def registry(layers: list[bytes], tmp_path: Path, node: Node) -> Iterator[Registry]:
    blobs = archives.oci(tmp_path / "r.tar", "x", layers, Cmd=["sh", "-c", "echo pulled"], Env=["PATH=/bin"])
    # The registry listens where the daemon can reach it: in the node's network namespace.
    from kubeling.linux import netns

    made = netns.inside(f"/proc/{node.pid}/ns/net", lambda: Registry(blobs))
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


async def test_pull(client: Cri, node: Node, registry: Registry) -> None:
    name = f"127.0.0.1:{registry.server_port}/team/box:v1"
    spec = cri.ImageSpec(image=name)

    async def pull(**auth: str) -> str:
        return str((await client.images.PullImage(cri.PullImageRequest(image=spec, auth=cri.AuthConfig(**auth)))).image_ref)

    async def remove() -> None:
        await client.images.RemoveImage(cri.RemoveImageRequest(image=spec))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image=name.replace("v1", "v2"))))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    for mode in ("basic", "bearer"):
        registry.mode = mode
        with pytest.raises(grpc.aio.AioRpcError, match="pull access denied"):
            await pull(username="me", password="wrong")
        assert (await pull(username="me", password="secret")).endswith(archives.digest(registry.blobs["manifest"]))
        await remove()
    registry.mode = "lying"
    with pytest.raises(grpc.aio.AioRpcError, match="does not match its digest"):
        await pull()
    registry.mode, registry.broken = "open", 2
    await pull()
    assert await client.output(image=name) == "pulled\n"
    # A registry that answers is heard, whatever is here; away from it, what is here is used.
    kept = dict(registry.blobs)
    registry.blobs.clear()
    with pytest.raises(grpc.aio.AioRpcError, match="not found"):
        await pull()
    registry.blobs.update(kept)
    registry.shutdown()
    registry.server_close()
    await pull()
    await remove()
    with pytest.raises(grpc.aio.AioRpcError, match="RegistryUnavailable"):
        await pull()


async def test_an_image_as_a_volume(client: Cri, node: Node, box: str) -> None:
    """Its files can be read, not written or run, and stay when the image goes."""
    mounts = [cri.Mount(container_path="/there", image=cri.ImageSpec(image=box))]
    _, container = await client.pod("sleep", "1000", mounts=mounts)
    assert (await client.exec(container, "cat", "/there/data/file"))[1] == "content\n"
    assert "Read-only file system" in (await client.exec(container, "touch", "/there/x"))[2]
    assert "Permission denied" in (await client.exec(container, "sh", "-c", "/there/bin/busybox true"))[2]
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=box)))
    assert (await client.exec(container, "cat", "/there/data/file"))[1] == "content\n"
    with pytest.raises(grpc.aio.AioRpcError, match="is not present"):
        await client.pod("true", mounts=mounts)
