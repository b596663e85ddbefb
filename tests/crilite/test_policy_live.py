"""Images that must be signed: what the runtime says of those that are not, or not rightly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kubeling.proto import cri_pb2 as cri
from tests.crilite import archives
from tests.crilite.conftest import Cri, Node
from tests.crilite.registries import Registry, public, sign

pytestmark = [
    pytest.mark.live,
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry: apt-get install docker-registry"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("namespaces are tried as root")
    folder = tmp_path_factory.mktemp("node")
    made = Node(folder, f"policy-{worker_id}-{os.getpid()}", (f"--image-policy={folder}/policy.yaml",))
    (folder / "policy.yaml").write_text("rules: []\n")
    made.start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def registry(node: Node) -> Iterator[Registry]:
    made = Registry(node.folder / "registry", f"/proc/{node.pid}/ns/net", "127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def policy(node: Node) -> Iterator[Callable[[list[dict[str, object]]], None]]:
    path = node.folder / "policy.yaml"

    def write(rules: list[dict[str, object]]) -> None:
        path.with_suffix(".new").write_text(json.dumps({"rules": rules}))
        path.with_suffix(".new").rename(path)

    yield write
    write([])


def push(registry: Registry, repository: str, tag: str = "1") -> tuple[str, str]:
    """(name, digest) of a small image."""
    layer = archives.layer(("file", f"{repository}:{tag}".encode()))
    body = archives.config([layer], Cmd=["x"])
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": archives.digest(body), "size": len(body)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": archives.digest(layer), "size": len(layer)}],
    }
    digest = registry.push(repository, tag, json.dumps(manifest).encode(), [body, layer])
    return f"{registry.name}/{repository}:{tag}", digest


async def pull(client: Cri, name: str) -> str:
    return str((await client.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image=name)))).image_ref)


async def refused(client: Cri, name: str, why: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pull(client, name)
    said = caught.value.details() or ""
    # The word by which a kubelet knows the case comes first.
    assert said.startswith("SignatureValidationFailed: ")
    assert why in said


async def present(client: Cri, name: str) -> bool:
    answer = await client.images.ImageStatus(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)))
    return bool(answer.HasField("image"))


async def test_signed_unsigned_and_wrongly_signed(
    client: Cri, registry: Registry, node: Node, policy: Callable[[list[dict[str, object]]], None]
) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (node.folder / "team.pub").write_bytes(public(key))
    rules: list[dict[str, object]] = [
        {"images": [f"{registry.name}/bad/*"], "require": "refuse"},
        {"images": [f"{registry.name}/team/*"], "require": "signed", "keys": ["team.pub"]},
    ]
    policy(rules)
    name, digest = push(registry, "team/good")
    await refused(client, name, "has no signature")
    assert not await present(client, name)
    sign(registry, "team/good", digest, other)
    await refused(client, name, "signed, but by none of the keys")
    sign(registry, "team/good", digest, key, says="sha256:" + "0" * 64)
    await refused(client, name, "the signature is one of sha256:0000")
    sign(registry, "team/good", digest, key, identity=f"{registry.name}/team/else")
    await refused(client, name, f"it was signed as {registry.name}/team/else")
    policy([rules[0], {**rules[1], "identity": "any"}])
    await pull(client, name)
    policy(rules)
    sign(registry, "team/good", digest, key)
    assert await pull(client, name) == f"{registry.name}/team/good@{digest}"
    assert await present(client, name)
    sandbox, config = await client.sandbox()
    await client.create(sandbox, config, image=name, name="allowed")

    bad, _ = push(registry, "bad/any")
    await refused(client, bad, "refuses")
    free, _ = push(registry, "team/deeper/any")
    await pull(client, free)


async def test_what_is_here_already_is_asked_for_its_signature(
    client: Cri, registry: Registry, node: Node, policy: Callable[[list[dict[str, object]]], None], tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name, digest = push(registry, "late/one")
    await pull(client, name)
    archives.oci(tmp_path / "hand.tar", "nowhere.invalid/hand:1", [archives.layer(("a", b""))])
    load = [sys.executable, "-m", "kubeling.crilite", "image", f"--root={node.root}", "load", str(tmp_path / "hand.tar")]
    subprocess.run(load, check=True)
    assert await present(client, name)
    keys = [public(key).decode()]
    policy([{"images": ["**"], "keys": keys}])
    # A kubelet does not find it, asks for it, and is told why it cannot have it.
    sandbox, config = await client.sandbox()
    for one in (name, "nowhere.invalid/hand:1"):
        assert not await present(client, one)
        with pytest.raises(grpc.aio.AioRpcError, match="SignatureValidationFailed"):
            await client.create(sandbox, config, image=one)
    await refused(client, "nowhere.invalid/hand:1", "its registry cannot be asked")
    await refused(client, name, "has no signature")
    sign(registry, "late/one", digest, key)
    await pull(client, name)
    await client.create(sandbox, config, image=name, name="signed")
    # The image that is built in is always good.
    await client.create(sandbox, config, "true", name="host")
    # A key that is taken out of the policy counts no more.
    policy([{"images": ["**"], "keys": [public(ec.generate_private_key(ec.SECP256R1())).decode()]}])
    assert not await present(client, name)
    # A policy that cannot be read lets nothing pass.
    policy([{"images": ["**"], "requires": "nothing"}])
    await refused(client, name, "unknown key requires")
