"""ConfigMaps, Secrets, Namespaces, ServiceAccounts, and field by field everything that has no layout of its own."""

from __future__ import annotations

import base64
from typing import Any

from kubeling.api.resources import LIMIT_RANGES, RESOURCE_QUOTAS
from kubeling.cli.describing.page import NONE, Page, shortened
from kubeling.client.rest import Client

Obj = dict[str, Any]

_LONGEST = 140


def head(page: Page, obj: Obj) -> None:
    meta = obj["metadata"]
    page.field("Name", meta["name"])
    if meta.get("namespace"):
        page.field("Namespace", meta["namespace"])
    page.mapping("Labels", meta.get("labels"))
    page.annotations(meta.get("annotations"))


def config_map(page: Page, obj: Obj) -> None:
    head(page, obj)
    page.line()
    page.line("Data")
    page.line("====")
    for key, value in sorted((obj.get("data") or {}).items()):
        for part in (f"{key}:", "----", *value.split("\n"), ""):
            page.line(part)
    page.line()
    page.line("BinaryData")
    page.line("====")
    for key, value in sorted((obj.get("binaryData") or {}).items()):
        page.line(f"{key}: {len(base64.b64decode(value))} bytes")
    page.line()


def secret(page: Page, obj: Obj) -> None:
    head(page, obj)
    page.line()
    page.field("Type", obj.get("type", ""))
    page.line()
    page.line("Data")
    page.line("====")
    for key, value in sorted((obj.get("data") or {}).items()):
        page.field(key, f"{len(base64.b64decode(value))} bytes")


async def namespace(page: Page, client: Client, obj: Obj) -> None:
    head(page, obj)
    page.field("Status", (obj.get("status") or {}).get("phase", ""))
    for resource, title in ((RESOURCE_QUOTAS, "resource quota"), (LIMIT_RANGES, "LimitRange resource")):
        found = (await client.list(resource, obj["metadata"]["name"])).get("items") or []
        page.line()
        if not found:
            page.line(f"No {title}.")
        for each in found:
            page.field("Name", each["metadata"]["name"])
            fields(page, each.get("status") or each.get("spec") or {}, 1)


def service_account(page: Page, obj: Obj) -> None:
    head(page, obj)
    for title, key in (("Image pull secrets", "imagePullSecrets"), ("Mountable secrets", "secrets")):
        page.listed(title, [each.get("name", "") for each in obj.get(key) or []])
    page.field("Tokens", NONE)


def anything(page: Page, obj: Obj) -> None:
    head(page, obj)
    page.field("API Version", obj["apiVersion"])
    page.field("Kind", obj["kind"])
    fields(page, {key: value for key, value in obj.items() if key not in ("metadata", "kind", "apiVersion")}, 0)


def fields(page: Page, value: Obj, indent: int) -> None:
    """An object, field by field."""
    for key, each in value.items():
        title = key[:1].upper() + key[1:]
        if isinstance(each, dict):
            page.line(f"{title}:", indent)
            fields(page, each, indent + 1)
        elif isinstance(each, list):
            page.line(f"{title}:", indent)
            for item in each:
                if isinstance(item, dict):
                    fields(page, item, indent + 1)
                else:
                    page.line(shortened(str(item), _LONGEST), indent + 1)
        else:
            page.field(title, shortened(str(each), _LONGEST), indent)
