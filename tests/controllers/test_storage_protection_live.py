"""Claims and volumes in use outlive their deletion."""

from __future__ import annotations

from typing import Any

from kubeling.api.errors import ApiError
from kubeling.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, SERVICE_ACCOUNTS
from kubeling.client.rest import Client


async def gone(client: Client, resource: Any, name: str, namespace: str | None) -> bool:
    try:
        await client.get(resource, name, namespace)
    except ApiError as error:
        return error.code == 404
    return False


async def test_what_is_in_use_stays(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    manager("--controllers=pvc-protection,pv-protection")
    try:
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace)
    except ApiError as error:
        if error.code != 409:
            raise
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await client.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "c"}, "spec": spec}, namespace)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    pod = {"containers": [{"name": "c", "image": "i"}], "nodeName": "nowhere", "volumes": volumes}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": pod}, namespace)
    await client.delete(PERSISTENT_VOLUME_CLAIMS, "c", namespace)
    other = await client.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "free"}, "spec": spec}, namespace)
    assert other["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await client.delete(PERSISTENT_VOLUME_CLAIMS, "free", namespace)
    await tools.until(lambda: gone(client, PERSISTENT_VOLUME_CLAIMS, "free", namespace), "a claim that nobody uses goes")
    assert not await gone(client, PERSISTENT_VOLUME_CLAIMS, "c", namespace)
    await client.delete(PODS, "p", namespace, grace_period_seconds=0)
    await tools.until(lambda: gone(client, PERSISTENT_VOLUME_CLAIMS, "c", namespace), "and the other when its pod has gone")
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}}
    name = f"{namespace}-v"
    await client.create(PERSISTENT_VOLUMES, {"metadata": {"name": name}, "spec": volume})
    await client.delete(PERSISTENT_VOLUMES, name)
    await tools.until(lambda: gone(client, PERSISTENT_VOLUMES, name, None), "a volume that is not bound goes")
