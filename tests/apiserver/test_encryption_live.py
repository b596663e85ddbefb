"""Secrets at rest: encrypted in the store, in upstream's form, with keys that can be changed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubeling.api import resources
from kubeling.apiserver.storage.encryption import Encryption, load
from kubeling.apiserver.storage.errors import Undecryptable
from kubeling.daemon.main import UsageError
from tests.apiserver.conftest import make_namespace
from tests.apiserver.harness import Server, World, config_map

KEY = "/registry/secrets/n/x"


def secret(size: int = 32) -> str:
    return base64.b64encode(os.urandom(size)).decode()


def configured(folder: Path, *providers: Any, kinds: tuple[str, ...] = ("secrets",)) -> Encryption:
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": list(kinds), "providers": list(providers)}],
    }
    (folder / "encryption.yaml").write_text(json.dumps(document))
    return load(str(folder / "encryption.yaml"))


def keys(provider: str, **named: str) -> dict[str, Any]:
    return {provider: {"keys": [{"name": name, "secret": value} for name, value in named.items()]}}


@pytest.mark.parametrize("provider", ["aesgcm", "aescbc", "secretbox"])
def test_what_is_sealed_is_opened(tmp_path: Path, provider: str):
    one, two = secret(), secret()
    old = configured(tmp_path, keys(provider, one=one), {"identity": {}}).of(resources.SECRETS)
    assert old is not None
    sealed = old.seal(KEY, b"hush")
    assert sealed.startswith(f"k8s:enc:{provider}:v1:one:".encode())
    assert b"hush" not in sealed
    assert sealed != old.seal(KEY, b"hush")
    assert old.open(KEY, sealed) == (b"hush", False)
    assert old.open(KEY, b'{"plain":1}') == (b'{"plain":1}', True)
    # The new key comes first, then the old one is taken away.
    both = configured(tmp_path, keys(provider, two=two, one=one)).of(resources.SECRETS)
    assert both is not None
    assert both.open(KEY, sealed) == (b"hush", True)
    only = configured(tmp_path, keys(provider, two=two)).of(resources.SECRETS)
    assert only is not None
    with pytest.raises(Undecryptable, match="no matching prefix found"):
        only.open(KEY, sealed)
    with pytest.raises(Undecryptable):
        old.open(KEY, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    if provider == "aesgcm":
        with pytest.raises(Undecryptable):
            old.open("/registry/secrets/n/other", sealed)


def test_which_kinds(tmp_path: Path):
    found = configured(tmp_path, {"identity": {}}, kinds=("secrets", "*.apps"))
    assert [found.of(each) is not None for each in (resources.SECRETS, resources.DEPLOYMENTS, resources.CONFIG_MAPS)] == [
        True,
        True,
        False,
    ]
    for bad, words in (
        (keys("aesgcm", a=secret(7)), "has 7 bytes"),
        ({"kms": {}}, "KMS plug-ins are not supported"),
        (keys("aesgcm"), "at least one key"),
        (keys("aesgcm", **{"a:b": secret()}), "without colons"),
    ):
        with pytest.raises(UsageError, match=words):
            configured(tmp_path, bad)


def stored(world: World, key: str) -> bytes:
    command = ["etcdctl", "--endpoints", world.store_url, "get", key, "--print-value-only"]
    return subprocess.run(command, capture_output=True, check=True, timeout=30, env={**os.environ, "ETCDCTL_API": "3"}).stdout


def start(world: World, *providers: Any) -> Server:
    configured(world.folder, *providers, kinds=("secrets",))
    return world.start_server(f"--encryption-provider-config={world.folder / 'encryption.yaml'}")


@pytest.mark.live
def test_at_rest_and_through_a_rotation(world):
    plain = world.start_server()
    with plain.client() as http:
        ns = make_namespace(http)
        ns.create("secrets", {"metadata": {"name": "old"}, "stringData": {"a": "hush"}})
    plain.daemon.stop()
    one, two = keys("aesgcm", one=secret()), keys("secretbox", two=secret())
    server = start(world, one, {"identity": {}})
    with server.client() as http:
        ns.http = http
        # A watch that was there before sees what it is told in clear; so does a server that has it in its cache.
        ns.create("secrets", {"metadata": {"name": "new"}, "stringData": {"a": "hush"}})
        ns.create("configmaps", config_map("open", a="seen"))
        for name in ("old", "new"):
            assert ns.get("secrets", name)["data"] == {"a": base64.b64encode(b"hush").decode()}
        assert {each["metadata"]["name"] for each in ns.get("secrets")["items"]} == {"old", "new"}
        key = f"/registry/secrets/{ns.name}/"
        assert stored(world, key + "new").startswith(b"k8s:enc:aesgcm:v1:one:")
        assert stored(world, key + "old").startswith(b'{"apiVersion"')
        assert b"seen" in stored(world, f"/registry/configmaps/{ns.name}/open")
        # An update that changes nothing writes anew what is stale, and only that.
        for name in ("old", "new"):
            found = ns.get("secrets", name)
            after = http.put(ns.path("secrets", name), json=found).json()
            changed = after["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]
            assert changed == (name == "old")
        assert stored(world, key + "old").startswith(b"k8s:enc:aesgcm:v1:one:")
    server.daemon.stop()
    server = start(world, two, one)
    with server.client() as http:
        ns.http = http
        found = ns.get("secrets", "new")
        assert http.put(ns.path("secrets", "new"), json=found).status_code == 200
        assert stored(world, key + "new").startswith(b"k8s:enc:secretbox:v1:two:")
        assert ns.get("secrets", "old")["data"]["a"] == base64.b64encode(b"hush").decode()
    server.daemon.stop()
    # Without the key there is nothing to be had, and it is said.
    server = start(world, two)
    with server.client() as http:
        ns.http = http
        answer = http.get(ns.path("secrets"))
        assert answer.status_code == 500
        assert "no matching prefix found" in answer.json()["message"]
        assert ns.get("configmaps", "open")["data"] == {"a": "seen"}
    server.daemon.stop()
