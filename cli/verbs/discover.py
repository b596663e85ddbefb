"""What there is: `api-resources`, `api-versions`, `version`, `cluster-info`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import kubeling
from kubeling.api.resources import SERVICES, Resource
from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session


async def api_resources(
    session: Session,
    group: Annotated[str | None, typer.Option("--api-group", help="Only of this group; empty is the core group.")] = None,
    namespaced: Annotated[str, typer.Option("--namespaced", help="true or false: only such.")] = "",
    verbs: Annotated[str, typer.Option("--verbs", help="Only what can be done all of these with, such as list,watch.")] = "",
    no_headers: Annotated[bool, typer.Option("--no-headers")] = False,
    form: flags.Output = "",
) -> int:
    """The kinds that the server serves."""
    needed = set(verbs.split(",")) if verbs else set()
    seen: dict[tuple[str, str], Resource] = {}
    for kind in await session.kinds():
        if group is not None and kind.group != group:
            continue
        if namespaced and kind.namespaced != (namespaced == "true"):
            continue
        if needed <= set(kind.verbs):
            seen.setdefault((kind.group, kind.plural), kind)
    kinds = sorted(seen.values(), key=lambda kind: (kind.group, kind.plural))
    if form == "name":
        print("\n".join(kind.qualified for kind in kinds))
        return 0
    headers = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"] + (["VERBS", "CATEGORIES"] if form == "wide" else [])
    rows = [] if no_headers else [headers]
    for kind in kinds:
        row = [kind.plural, ",".join(kind.short_names), kind.group_version, str(kind.namespaced).lower(), kind.kind]
        rows.append(row + ([",".join(kind.verbs), ",".join(kind.categories)] if form == "wide" else []))
    sys.stdout.write(output.align(rows))
    return 0


async def api_versions(session: Session) -> int:
    """The groups and versions that the server serves."""
    for each in sorted({kind.group_version for kind in await session.kinds()}):
        print(each)
    return 0


async def version(
    session: Session,
    client: Annotated[bool, typer.Option("--client", help="Ours only.")] = False,
    form: Annotated[str, typer.Option("-o", "--output", help="json or yaml.")] = "",
) -> int:
    """Our version and the server's."""
    if form not in ("", "json", "yaml"):
        raise CommandError("--output must be 'yaml' or 'json'")
    found: Obj = {"clientVersion": {"gitVersion": kubeling.__version__, "platform": sys.platform}}
    if form == "":
        print(f"Client Version: {kubeling.__version__}")
    if not client:
        found["serverVersion"] = await session.client.request("GET", "/version")
        if form == "":
            print(f"Server Version: {found['serverVersion']['gitVersion']}")
    if form:
        sys.stdout.write(output.printer(form)(found))
    return 0


async def cluster_info(session: Session) -> int:
    """Where the control plane and the cluster's own Services answer."""
    server = session.client.config.servers[0]
    print(f"Kubernetes control plane is running at {server}")
    listed = await session.client.list(SERVICES, "kube-system", label_selector="kubernetes.io/cluster-service=true")
    for service in listed.get("items") or []:
        meta = service["metadata"]
        name = (meta.get("labels") or {}).get("kubernetes.io/name") or meta["name"]
        ports = (service.get("spec") or {}).get("ports") or [{}]
        port = f":{ports[0]['name']}" if ports[0].get("name") else ""
        print(f"{name} is running at {server}/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}{port}/proxy")
    print("\nOf its daemons tell: kubeling status, kubeling logs DAEMON.")
    return 0
