"""What the end-to-end tests share: waiting for a state with a deadline, and asking a Service from the host and from inside."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kubeling.api.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from kubeling.cluster.pytest_plugin import ClusterHandle

EXAMPLES = Path(__file__).parents[2] / "examples"
Obj = dict[str, Any]

_KINDS = {"pod": PODS, "node": NODES, "service": SERVICES, "deployment": DEPLOYMENTS}


class Bench:
    """A namespace of the cluster, and short words for what tests do in it."""

    def __init__(self, cluster: ClusterHandle, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def cli(self, *args: str, **options: Any) -> str:
        return self.cluster.cli("-n", self.namespace, *args, **options).stdout

    def kubectl(self, *args: str, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *args, **options).stdout

    def get(self, kind: str, name: str = "", selector: str = "") -> Obj:
        """An object, or a list, asked for with our own client: `until` does so often, and a command costs a process."""

        async def ask() -> Obj:
            async with self.cluster.client() as client:
                namespace = self.namespace if _KINDS[kind].namespaced else None
                if name:
                    return await client.get(_KINDS[kind], name, namespace)
                return await client.list(_KINDS[kind], namespace, label_selector=selector or None)

        return asyncio.run(ask())

    def pods(self, selector: str = "") -> list[Obj]:
        items: list[Obj] = self.get("pod", selector=selector)["items"]
        return items

    def apply(self, obj: Obj | str) -> None:
        text = obj if isinstance(obj, str) else json.dumps(obj)
        self.cli("apply", "-f", "-", input=text)

    def until(self, what: str, check: Callable[[], Any], seconds: float = 180) -> Any:
        """The first true answer of `check`. Fails the test, with the state of the pods, when it does not come in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = check()
            if found:
                return found
            time.sleep(0.1)
        state = self.cli("get", "pods", "-o", "wide", check=False) + self.cli("get", "events", check=False)
        pytest.fail(f"after {seconds} s still not: {what}\n{state}", pytrace=False)

    def run_once(self, name: str, *command: str, seconds: float = 60, mounts: Mapping[str, str] | None = None) -> str:
        """Run a command in a pod of its own to its end; returns what it wrote. `mounts`: folder of the host → where the pod has it."""
        places = list(enumerate((mounts or {}).items()))
        container = {
            "name": "main",
            "image": "kubeling.local/host",
            "command": list(command),
            "volumeMounts": [{"name": f"v{number}", "mountPath": there} for number, (_, there) in places],
        }
        volumes = [{"name": f"v{number}", "hostPath": {"path": here}} for number, (here, _) in places]
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes},
            }
        )

        def ended() -> Any:
            phase = (self.get("pod", name).get("status") or {}).get("phase")
            return phase if phase in ("Succeeded", "Failed") else None

        phase = self.until(f"pod {name} ended", ended, seconds)
        output = self.cli("logs", name)
        assert phase == "Succeeded", output
        return output


def fetch(url: str, timeout: float = 5) -> str:
    """The body of a page; raises OSError where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body.decode()
    except urllib.error.HTTPError as error:
        raise OSError(str(error)) from error


def balancer(bench: Bench, service: str = "web") -> str:
    """The URL of a LoadBalancer Service, once it has one."""

    def address() -> str | None:
        found = bench.get("service", service)
        ingress = ((found.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        return f"http://{ingress[0]['ip']}:{found['spec']['ports'][0]['port']}/" if ingress else None

    url: str = bench.until(f"service {service} has an address", address, 30)
    return url
