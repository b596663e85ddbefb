"""Images pulled from a real registry: with and without auth, by mirrors, over TLS, and through a proxy that breaks off, lies, and is slow."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import zstandard

from kubeling.proto import cri_pb2 as cri
from tests.crilite import archives
from tests.crilite.conftest import Cri, Node, eventually
from tests.crilite.registries import Proxy, Registry, TokenService, basic, htpasswd

pytestmark = [
    pytest.mark.live,
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry: apt-get install docker-registry"),
    pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="needs a static busybox: apt-get install busybox-static"),
]

#: An address of the node that is none of the loopback's.
OUTSIDE = "10.99.0.1"
BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    folder = tmp_path_factory.mktemp("node")
    made = Node(
        folder,
        f"registry-{worker_id}-{os.getpid()}",
        (f"--registry-config-dir={folder}/hosts", "--image-pull-progress-timeout=1"),
    )
    made.run("ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def where(node: Node) -> str:
    return f"/proc/{node.pid}/ns/net"


class Image:
    """Three layers, each packed in another way; the upper ones hide and replace what the lower ones have."""

    def __init__(self, salt: str, filling: int = 0) -> None:
        layers = [
            archives.layer(
                ("bin/", None),
                ("bin/busybox", BUSYBOX.read_bytes()),
                *(archives.link(f"bin/{name}", "busybox") for name in ("sh", "cat", "ls")),
                ("data/", None), ("data/old", b"old"), ("data/kept", b"kept"), ("gone/", None), ("gone/file", b"x"),
            ),
            archives.layer(("data/.wh.old", b""), ("gone/", None), ("gone/.wh..wh..opq", b""), ("gone/new", b"n")),
            archives.layer(("salt", salt.encode()), ("filling", os.urandom(filling))),
        ]  # fmt: skip
        two_frames = zstandard.compress(layers[1][:700]) + zstandard.compress(layers[1][700:])
        self.layers = [gzip.compress(layers[0], 1, mtime=0), two_frames, layers[2]]
        self.config = archives.config(layers, Cmd=["sh", "-c", "cat /salt; ls /data /gone"], Env=["PATH=/bin"])
        kinds = ("+gzip", "+zstd", "")
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("application/vnd.oci.image.config.v1+json", self.config),
                "layers": [
                    _descriptor(f"application/vnd.oci.image.layer.v1.tar{kind}", one)
                    for kind, one in zip(kinds, self.layers, strict=True)
                ],
            }
        ).encode()
        self.printed = f"{salt}/data:\nkept\n\n/gone:\nnew\n"

    def push(self, registry: Registry, repository: str, tag: str, **headers: str) -> str:
        return registry.push(repository, tag, self.manifest, [self.config, *self.layers], **headers)


def _descriptor(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": archives.digest(data), "size": len(data), **more}


@pytest.fixture(scope="module")
def registry(node: Node, where: str) -> Iterator[Registry]:
    made = Registry(node.folder / "registry", where, "127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def proxy(where: str, registry: Registry) -> Iterator[Proxy]:
    made = Proxy(where, registry.name)
    yield made
    made.close()


@pytest.fixture
def hosts(node: Node) -> Iterator[Callable[[str, str], None]]:
    """Writes the hosts.toml of a registry."""
    folder = node.folder / "hosts"

    def write(registry: str, text: str) -> None:
        (folder / registry).mkdir(parents=True)
        (folder / registry / "hosts.toml").write_text(text)

    yield write
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def pulled(client: Cri) -> AsyncIterator[Callable[..., Any]]:
    """Pulls an image, and removes it in the end."""
    names: list[str] = []

    async def pull(name: str, **auth: str) -> str:
        names.append(name)
        request = cri.PullImageRequest(image=cri.ImageSpec(image=name), auth=cri.AuthConfig(**auth))
        return str((await client.images.PullImage(request)).image_ref)

    yield pull
    await client.clean()
    for name in names:
        await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))


async def test_an_index_gives_the_image_for_this_machine(
    client: Cri, node: Node, registry: Registry, pulled: Callable[..., Any], tmp_path: Path
) -> None:
    image, other = Image("this"), Image("other")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    other.push(registry, "team/multi", "other")
    image.push(registry, "team/multi", "this")
    kind = "application/vnd.oci.image.manifest.v1+json"
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            _descriptor(kind, other.manifest, platform={"os": "linux", "architecture": "s390x"}),
            _descriptor(kind, other.manifest, platform={"os": "unknown", "architecture": "unknown"}),
            _descriptor(kind, image.manifest, platform={"os": "linux", "architecture": machine}),
        ],
    }
    digest = registry.push("team/multi", "1", json.dumps(index).encode(), [])
    name = f"{registry.name}/team/multi"
    assert await pulled(f"{name}:1") == f"{name}@{digest}"
    # Layers of all compressions, with what they hide.
    assert await client.output(image=f"{name}:1") == image.printed
    assert await client.output(image=f"{name}@{digest}") == image.printed

    # Out into an archive and in again, with another tool's list of what is in it.
    tool = [sys.executable, "-m", "kubeling.crilite", "image", f"--root={node.root}"]
    archive = str(tmp_path / "saved.tar")
    subprocess.run([*tool, "save", f"{name}:1", "--output", archive], check=True)
    await client.clean()
    await client.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=f"{name}:1")))
    loaded = subprocess.run([*tool, "load", archive], check=True, capture_output=True, text=True).stdout
    assert loaded == f"loaded {name}:1\n"
    assert await client.output(image=f"{name}:1") == image.printed
    await client.clean()
    subprocess.run([*tool, "rm", f"{name}:1"], check=True)
    command = node.inside(*tool, "pull", f"{name}:1")
    assert f"pulled {name}:1" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    index["manifests"] = index["manifests"][:1]
    registry.push("team/multi", "2", json.dumps(index).encode(), [])
    with pytest.raises(grpc.aio.AioRpcError, match="it is for: linux/s390x") as caught:
        await pulled(f"{name}:2")
    assert caught.value.code() == grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("kind", ["basic", "bearer"])
async def test_credentials(client: Cri, node: Node, where: str, kind: str, pulled: Callable[..., Any], tmp_path: Path) -> None:
    image = Image(kind)
    tokens = TokenService(tmp_path / "tokens", where, "me", "secret") if kind == "bearer" else None
    auth = tokens.auth if tokens else htpasswd(tmp_path / "htpasswd", "me", "secret")
    registry = Registry(tmp_path / "registry", where, "127.0.0.1", auth=auth)
    try:
        push = f"Bearer {tokens.token('repository:team/box:pull,push')}" if tokens else basic("me", "secret")
        image.push(registry, "team/box", "1", Authorization=push)
        name = f"{registry.name}/team/box:1"
        for wrong in (
            {},
            {"username": "me", "password": "wrong"},
            # Credentials for another registry are not shown to this one.
            {"username": "me", "password": "secret", "server_address": "https://elsewhere.example.org"},
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="pull access denied"):
                await pulled(name, **wrong)
        await pulled(name, username="me", password="secret", server_address=registry.name)
        assert await client.output(image=name) == image.printed
        packed = basic("me", "secret").split()[1]
        await pulled(name, auth=packed)
        if tokens:
            await pulled(name, registry_token=tokens.token("repository:team/box:pull"))
            # One token is enough for all of an image.
            assert tokens.issued <= 4
    finally:
        registry.close()
        if tokens:
            tokens.close()


async def test_what_breaks_off_is_resumed(
    client: Cri, node: Node, registry: Registry, proxy: Proxy, pulled: Callable[..., Any]
) -> None:
    image = Image("broken", 900_000)
    image.push(registry, "team/broken", "1")
    name = f"{proxy.name}/team/broken:1"
    proxy.mode, proxy.bytes = "breaking", 300_000
    await pulled(name)
    assert await client.output(image=name) == image.printed
    big = archives.digest(image.layers[2])
    ranges = [asked for path, asked in proxy.asked if path.partition("?")[0].endswith(big)]
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in ranges]
    # Everything was sent once: each request begins where the last one ended.
    assert starts[0] == 0
    assert len(starts) >= 3
    assert all(after > before for before, after in itertools.pairwise(starts))


async def test_a_download_outlives_the_daemon(
    client: Cri, node: Node, registry: Registry, proxy: Proxy, pulled: Callable[..., Any]
) -> None:
    image = Image("restart", 900_000)
    image.push(registry, "team/restart", "1")
    name = f"{proxy.name}/team/restart:1"
    proxy.mode, proxy.bytes = "stalling", 400_000
    big = archives.digest(image.layers[2])
    pull = asyncio.create_task(pulled(name))
    partial = node.root / "images" / "blobs" / "sha256" / f"partial-{big.removeprefix('sha256:')}"
    await eventually(lambda: any(path.partition("?")[0].endswith(big) for path, _ in proxy.asked))
    await eventually(lambda: partial.exists() and partial.stat().st_size >= 256 << 10)
    node.kill_daemon(signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError):
        await pull
    kept = partial.stat().st_size
    proxy.mode = "honest"
    proxy.asked.clear()
    node.start()
    await client.ready()
    await pulled(name)
    assert await client.output(image=name) == image.printed
    assert [asked for path, asked in proxy.asked if path.partition("?")[0].endswith(big)] == [f"bytes={kept}-"]


async def test_slow_is_waited_for_and_silence_is_not(
    client: Cri, registry: Registry, proxy: Proxy, pulled: Callable[..., Any]
) -> None:
    image = Image("slow", 400_000)
    image.push(registry, "team/slow", "1")
    name = f"{proxy.name}/team/slow:1"
    proxy.mode, proxy.bytes = "stalling", 0
    with pytest.raises(grpc.aio.AioRpcError, match="RegistryUnavailable") as caught:
        await pulled(name)
    assert caught.value.code() == grpc.StatusCode.UNKNOWN
    proxy.released.set()
    proxy.mode = "slow"
    await asyncio.gather(pulled(name), pulled(name))
    assert await client.output(image=name) == image.printed
    assert proxy.most > 1
    # Two pulls of one name at the same time are one.
    assert len([path for path, _ in proxy.asked if archives.digest(image.config) in path]) <= 6


async def test_lies_are_found_out(
    client: Cri, node: Node, registry: Registry, proxy: Proxy, pulled: Callable[..., Any], hosts: Callable[[str, str], None]
) -> None:
    image = Image("truth", 100_000)
    image.push(registry, "team/truth", "1")
    proxy.mode = "lying"
    with pytest.raises(grpc.aio.AioRpcError, match="does not match its digest"):
        await pulled(f"{proxy.name}/team/truth:1")
    assert not list((node.root / "images" / "blobs" / "sha256").glob(f"*{archives.digest(image.layers[2])[7:]}"))
    # A mirror that lies costs time, and nothing else.
    hosts(registry.name, f'[host."http://{proxy.name}"]\n')
    await pulled(f"{registry.name}/team/truth:1")
    assert await client.output(image=f"{registry.name}/team/truth:1") == image.printed
    assert proxy.asked


async def test_mirrors_are_asked_first(
    client: Cri, registry: Registry, proxy: Proxy, pulled: Callable[..., Any], hosts: Callable[[str, str], None]
) -> None:
    image = Image("mirror")
    digest = image.push(registry, "team/mirror", "1")
    # The registry that it stands for is nowhere.
    hosts("registry.invalid", f'server = "http://127.0.0.1:1"\n[host."http://127.0.0.1:2"]\n[host."http://{proxy.name}"]\n')
    assert await pulled("registry.invalid/team/mirror:1") == f"registry.invalid/team/mirror@{digest}"
    assert await client.output(image="registry.invalid/team/mirror:1") == image.printed
    assert all("ns=registry.invalid" in path for path, _ in proxy.asked)
    # One that may not say what a tag means is only asked for what has a digest.
    hosts("other.invalid", f'server = "http://127.0.0.1:1"\n[host."http://{proxy.name}"]\ncapabilities = ["pull"]\n')
    with pytest.raises(grpc.aio.AioRpcError, match="RegistryUnavailable"):
        await pulled("other.invalid/team/mirror:1")
    await pulled(f"other.invalid/team/mirror@{digest}")


async def test_tls(
    client: Cri, node: Node, where: str, pulled: Callable[..., Any], hosts: Callable[[str, str], None], tmp_path: Path
) -> None:
    image = Image("tls")
    registry = Registry(tmp_path / "registry", where, OUTSIDE, tls=True)
    plain = Registry(tmp_path / "plain", where, OUTSIDE)
    try:
        name = f"{registry.name}/team/tls:1"
        image.push(registry, "team/tls", "1")
        image.push(plain, "team/tls", "1")
        with pytest.raises(grpc.aio.AioRpcError, match=r"RegistryUnavailable.*CERTIFICATE_VERIFY_FAILED"):
            await pulled(name)
        with pytest.raises(grpc.aio.AioRpcError, match="RegistryUnavailable"):
            await pulled(f"{plain.name}/team/tls:1")
        hosts(registry.name, f'server = "https://{registry.name}"\nca = "{registry.cert}"\n')
        await pulled(name)
        assert await client.output(image=name) == image.printed
        # What is named insecure is asked with TLS that nobody checks, and without.
        tool = [
            sys.executable,
            "-m",
            "kubeling.crilite",
            "image",
            f"--root={node.root}",
            "pull",
            f"--insecure-registry={OUTSIDE}",
        ]
        for one in (name, f"{plain.name}/team/tls:1"):
            assert "pulled" in subprocess.run(node.inside(*tool, one), check=True, capture_output=True, text=True).stdout
    finally:
        registry.close()
        plain.close()
