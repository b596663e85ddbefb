"""Aggregated ClusterRoles and tokens in Secrets, against a real apiserver under RBAC."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.resources import CLUSTER_ROLES, SECRETS, SERVICE_ACCOUNTS, TOKEN_REVIEWS
from kubeling.client.rest import Client

pytestmark = pytest.mark.live
Obj = dict[str, Any]


def cluster_role(name: str, verb: str, **metadata: Any) -> Obj:
    rules = [{"verbs": [verb], "apiGroups": ["example.com"], "resources": ["widgets"]}]
    return {
        "apiVersion": CLUSTER_ROLES.group_version,
        "kind": "ClusterRole",
        "metadata": {"name": name, **metadata},
        "rules": rules,
    }


async def test_an_aggregated_role_follows_its_parts(tools: Any, client: Client, namespace: str, manager: Any) -> None:
    manager("--controllers=clusterrole-aggregation")
    whole = cluster_role(f"{namespace}-whole", "nothing")
    whole["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {"part-of": namespace}}]}
    await client.create(CLUSTER_ROLES, whole)
    for name, verb in (("b", "list"), ("a", "get")):
        await client.create(CLUSTER_ROLES, cluster_role(f"{namespace}-{name}", verb, labels={"part-of": namespace}))

    async def verbs() -> list[str]:
        rules = (await client.get(CLUSTER_ROLES, f"{namespace}-whole")).get("rules") or []
        return [each["verbs"][0] for each in rules]

    async def are(*wanted: str) -> bool:
        return await verbs() == list(wanted)

    try:
        await tools.until(lambda: are("get", "list"), "both parts are in it")
        await client.patch(CLUSTER_ROLES, f"{namespace}-whole", {"rules": []})
        await tools.until(lambda: are("get", "list"), "what was taken out is back")
        await client.delete(CLUSTER_ROLES, f"{namespace}-a")
        await tools.until(lambda: are("list"), "the other part is left")
    finally:
        for name in ("whole", "a", "b"):
            with contextlib.suppress(ApiError):
                await client.delete(CLUSTER_ROLES, f"{namespace}-{name}")


async def test_a_token_appears_in_its_secret_and_goes_with_the_account(
    tools: Any, plane: Any, client: Client, namespace: str, manager: Any
) -> None:
    manager("--controllers=serviceaccount-token", f"--service-account-private-key-file={plane.folder / 'sa.key'}")
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "robot"}}, namespace)
    annotations = {"kubernetes.io/service-account.name": "robot"}
    secret = {"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    await client.create(SECRETS, secret, namespace)

    async def filled() -> Obj | None:
        data = (await client.get(SECRETS, "t", namespace)).get("data") or {}
        return data if {"token", "ca.crt", "namespace"} <= data.keys() else None

    token = base64.b64decode((await tools.until(filled, "the token is there"))["token"]).decode()

    async def user() -> str:
        review = await client.create(TOKEN_REVIEWS, {"spec": {"token": token}})
        return str(review["status"]["user"].get("username") or "")

    assert await user() == f"system:serviceaccount:{namespace}:robot"
    await client.delete(SERVICE_ACCOUNTS, "robot", namespace)

    async def gone() -> bool:
        try:
            await client.get(SECRETS, "t", namespace)
        except ApiError as error:
            return error.code == 404
        return False

    await tools.until(gone, "the Secret has gone with its account")
    assert await user() == ""
