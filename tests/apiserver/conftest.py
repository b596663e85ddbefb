"""One store and one apiserver for the module, and a namespace for each test."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.apiserver import harness
from tests.apiserver.harness import Obj, Server, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with harness.world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def server(world: World) -> Server:
    return world.start_server()


@pytest.fixture(scope="module")
def on_real_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    with harness.world(tmp_path_factory.mktemp("etcd"), "etcd") as made:
        yield made


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@dataclass
class Namespace:
    """A namespace with its default account, and short ways into it."""

    http: httpx.Client
    name: str

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        base = f"/apis/{group}" if group else "/api/v1"
        return f"{base}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def create(self, plural: str, obj: Obj, group: str = "", status: int = 201) -> Obj:
        answer = self.http.post(self.path(plural, group=group), json=obj)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, plural: str, name: str = "", group: str = "", status: int = 200, **query: str) -> Obj:
        answer = self.http.get(self.path(plural, name, group), params=query)
        assert answer.status_code == status, answer.text
        return answer.json()


def make_namespace(client: httpx.Client) -> Namespace:
    name = f"t-{uuid.uuid4().hex[:8]}"
    assert client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).status_code == 201
    found = Namespace(client, name)
    found.create("serviceaccounts", {"metadata": {"name": "default"}})
    return found


@pytest.fixture
def ns(http: httpx.Client) -> Namespace:
    return make_namespace(http)
