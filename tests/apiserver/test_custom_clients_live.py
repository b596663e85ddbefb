"""Custom resources with every kubectl that is installed, the Python client's dynamic client, and an operator written with kopf."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from tests.apiserver import definitions
from tests.apiserver.conftest import make_namespace
from tests.apiserver.definitions import definition, gone, until
from tests.apiserver.harness import Kubectl
from tests.kubectls import oldest_and_newest

pytestmark = pytest.mark.live
BINARIES = oldest_and_newest()


@pytest.fixture(
    params=BINARIES or [pytest.param("", marks=pytest.mark.skip(reason="kubectl is not installed"))],
    ids=lambda each: Path(each).name,
)
def kubectl(request, server, tmp_path):
    with server.client() as client:
        ns = make_namespace(client)
    made = Kubectl(request.param, server.kubeconfig(tmp_path / "config"), tmp_path / "cache")
    made("config", "set-context", "k", f"--namespace={ns.name}")
    return made


def test_a_kind_of_ones_own_with_kubectl(kubectl, tmp_path, monkeypatch):
    group = f"k{uuid.uuid4().hex[:6]}.example.com"
    short, crd = f"w{uuid.uuid4().hex[:5]}", f"widgets.{group}"
    manifest = tmp_path / "crd.json"
    manifest.write_text(json.dumps(definition(group, shortNames=[short], categories=["gear"])))
    try:
        kubectl("apply", "-f", str(manifest))
        kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=10s")
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": 3}}
        assert "created" in kubectl("apply", "-f", "-", stdin=json.dumps(widget))
        assert "unchanged" in kubectl("apply", "-f", "-", stdin=json.dumps(widget))
        widget["spec"]["size"] = 4
        assert kubectl.run("diff", "-f", "-", stdin=json.dumps(widget)).returncode == 1
        assert "configured" in kubectl("apply", "-f", "-", stdin=json.dumps(widget))
        assert kubectl("get", short).split()[:3] == ["NAME", "SIZE", "AGE"]
        assert f"widget.{group}/a" in kubectl("get", "gear", "-o", "name")
        assert "Size:" in kubectl("describe", short, "a")
        assert "How big it is." in kubectl("explain", f"{crd}.spec")
        assert (
            "strict decoding error"
            in kubectl.run("apply", "-f", "-", stdin=json.dumps({**widget, "spec": {"size": 4, "bogus": 1}})).stderr
        )
        assert "should be less than or equal to 10" in kubectl.run("scale", crd, "a", "--replicas=11").stderr
        kubectl("scale", f"{short}/a", "--replicas=6")
        kubectl("patch", short, "a", "--type=merge", "-p", '{"spec":{"color":"green"}}')
        kubectl("patch", short, "a", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Up"}}')
        kubectl("patch", short, "a", "--type=json", "-p", '[{"op":"add","path":"/spec/tags","value":["x"]}]')
        assert "not supported by" in kubectl.run("patch", short, "a", "-p", "{}").stderr
        kubectl("label", short, "a", "tier=front")
        monkeypatch.setenv("KUBE_EDITOR", "sed -i s/green/red/")
        assert "edited" in kubectl("edit", short, "a")
        shown = json.loads(kubectl("get", short, "a", "-o", "json"))
        assert shown["spec"] == {"size": 6, "color": "red", "tags": ["x"]}
        assert shown["status"] == {"phase": "Up"}
        assert "serverside-applied" in kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(widget))
        kubectl("wait", "--for=jsonpath={.status.phase}=Up", f"{short}/a", "--timeout=10s")
        kubectl("delete", short, "a")
        kubectl("delete", "-f", str(manifest))
        assert "NotFound" in kubectl.run("get", "crd", crd).stderr
    finally:
        kubectl.run("delete", "crd", crd, "--ignore-not-found", "--wait=false")


def test_the_dynamic_client(server, tmp_path):
    from kubernetes import client, config, dynamic

    config.load_kube_config(str(server.kubeconfig(tmp_path / "config")))
    with server.client() as http:
        ns = make_namespace(http)
        with definitions.kind(http, ns.name) as kind:
            api = dynamic.DynamicClient(client.ApiClient())
            widgets = api.resources.get(api_version=f"{kind.group}/v1", kind="Widget")
            widgets.create(body=kind.widget("a"), namespace=ns.name)
            patch = {"spec": {"size": 5}}
            widgets.patch(name="a", namespace=ns.name, body=patch, content_type="application/merge-patch+json")
            widgets.status.patch(
                name="a", namespace=ns.name, body={"status": {"phase": "Up"}}, content_type="application/merge-patch+json"
            )
            found = widgets.get(name="a", namespace=ns.name)
            assert (found.spec.size, found.status.phase) == (5, "Up")
            for event in widgets.watch(namespace=ns.name, timeout=5):
                assert event["object"].metadata.name == "a"
                break
            widgets.server_side_apply(name="b", namespace=ns.name, body=kind.widget("b"), field_manager="test")
            assert {each.metadata.name for each in widgets.get(namespace=ns.name).items} == {"a", "b"}
            widgets.delete(name="a", namespace=ns.name)


OPERATOR = """
import kopf

@kopf.on.startup()
def settings(settings: kopf.OperatorSettings, **_):
    settings.posting.enabled = False
    settings.persistence.finalizer = "example.com/kopf"

@kopf.on.create("{group}", "v1", "widgets")
@kopf.on.update("{group}", "v1", "widgets")
def paint(spec, patch, **_):
    patch.status["phase"] = f"painted {{spec['color']}}"

@kopf.on.delete("{group}", "v1", "widgets")
def clean(**_):
    pass
"""


def test_an_operator_written_with_kopf(server, tmp_path):
    pytest.importorskip("kopf")
    with server.client() as http:
        ns = make_namespace(http)
        schema = json.loads(json.dumps(definitions.SCHEMA))
        schema["properties"]["status"]["x-kubernetes-preserve-unknown-fields"] = True
        with definitions.kind(http, ns.name, definitions.version(schema=schema)) as kind:
            kind.create("before")
            program = tmp_path / "operator.py"
            program.write_text(textwrap.dedent(OPERATOR.format(group=kind.group)))
            config = server.kubeconfig(tmp_path / "config")
            argv = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={ns.name}", str(program)]
            with (tmp_path / "log").open("w") as log:
                process = subprocess.Popen(argv, env={**os.environ, "KUBECONFIG": str(config)}, stdout=log, stderr=log)
            try:
                _follow(http, kind)
            except AssertionError as error:
                raise AssertionError((tmp_path / "log").read_text()[-3000:]) from error
            finally:
                process.terminate()
                process.wait(20)


def _follow(http, kind) -> None:
    until(http, kind.path("before"), lambda obj: obj.get("status", {}).get("phase") == "painted red", 40)
    kind.create("a")
    until(http, kind.path("a"), lambda obj: obj.get("status", {}).get("phase") == "painted red")
    kind.merge("a", {"spec": {"color": "green"}})
    until(http, kind.path("a"), lambda obj: obj["status"]["phase"] == "painted green")
    assert kind.get("a")["metadata"]["finalizers"] == ["example.com/kopf"]
    for name in ("a", "before"):
        http.delete(kind.path(name))
        gone(http, kind.path(name))


def test_a_controller_written_with_lightkube(server, tmp_path):
    pytest.importorskip("lightkube")
    from lightkube import Client, KubeConfig
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.types import PatchType

    with server.client() as http:
        ns = make_namespace(http)
        with definitions.kind(http, ns.name) as kind:
            widget = create_namespaced_resource(kind.group, "v1", "Widget", "widgets")
            client = Client(config=KubeConfig.from_file(str(server.kubeconfig(tmp_path / "config"))), namespace=ns.name)
            client.create(widget(metadata={"name": "a"}, spec={"size": 3}))
            done = []
            for event, obj in client.watch(widget, resource_version="0"):
                if event == "DELETED":
                    done.append(obj.metadata.name)
                    break
                if obj.status is None:
                    client.patch(widget.Status, obj.metadata.name, {"status": {"phase": "Up"}}, patch_type=PatchType.MERGE)
                elif obj.spec["size"] == 3:
                    client.apply(widget(metadata={"name": "a"}, spec={"size": 5}), field_manager="lightkube", force=True)
                else:
                    client.delete(widget, "a")
            assert done == ["a"]
            assert list(client.list(widget)) == []


def test_a_controller_written_with_kr8s(server, tmp_path):
    pytest.importorskip("kr8s")
    import kr8s
    from kr8s.objects import new_class

    with server.client() as http:
        ns = make_namespace(http)
        with definitions.kind(http, ns.name) as kind:
            api = kr8s.api(kubeconfig=str(server.kubeconfig(tmp_path / "config")), namespace=ns.name)
            widget = new_class(kind="Widget", version=f"{kind.group}/v1", namespaced=True, scalable=True, scalable_spec="size")
            made = widget({"metadata": {"name": "a", "namespace": ns.name}, "spec": {"size": 3}}, api=api)
            made.create()
            made.patch({"spec": {"color": "green"}})
            made.patch({"status": {"phase": "Up"}}, subresource="status")
            made.refresh()
            assert (made.spec.color, made.status.phase) == ("green", "Up")
            [found] = api.get(f"widgets.{kind.group}", namespace=ns.name)
            assert found.name == "a"
            for event, obj in api.watch(f"widgets.{kind.group}", namespace=ns.name):
                assert (event, obj.name) == ("ADDED", "a")
                break
            made.delete()
            gone(http, kind.path("a"))
