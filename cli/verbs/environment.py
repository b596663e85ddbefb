"""`set env`: the environment of containers, shown with --list."""

from __future__ import annotations

import base64
import copy
import fnmatch
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kubeling.api.resources import CONFIG_MAPS, SECRETS, Resource
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.verbs.setting import Change, Containers, containers_of, pod_spec, setter

_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@setter("env updated")
async def env(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME KEY=VALUE… KEY-…")] = None,
    more: Annotated[list[str] | None, typer.Option("-e", "--env", help="KEY=VALUE; may be repeated.")] = None,
    source: Annotated[str, typer.Option("--from", help="All keys of configmap/NAME or secret/NAME.")] = "",
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the names that --from gives.")] = "",
    keys: Annotated[list[str] | None, typer.Option("--keys", help="Only these keys of --from.")] = None,
    containers: Containers = "*",
    list_only: Annotated[bool, typer.Option("--list", help="Show it; nothing is changed.")] = False,
    resolve: Annotated[bool, typer.Option("--resolve", help="With --list: values of ConfigMaps and Secrets, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite/--no-overwrite", help="Replace values that are there.")] = True,
) -> tuple[Sequence[str], Change]:
    """Change the environment of containers: `kubeling set env deploy/web MODE=fast OLD-`, `… --from=secret/login`."""
    found = [*(words or []), *(more or [])]
    changes = [word for word in found if _is_change(word)]
    wanted = [_variable(word) for word in changes if "=" in word]
    gone = {word[:-1] for word in changes if "=" not in word and word != "-"}
    if "-" in changes:
        wanted += [_variable(line.strip()) for line in sys.stdin if "=" in line and not line.startswith("#")]
    if source:
        wanted += await _from_source(session, source, prefix, {key for each in keys or [] for key in each.split(",")})

    async def change(resource: Resource, obj: Obj) -> bool:
        spec = pod_spec(resource, obj)
        if not any(fnmatch.fnmatchcase(each["name"], containers) for each in containers_of(spec, "*")):
            print(
                f'Warning: {resource.kind}/{obj["metadata"]["name"]} does not have any containers matching "{containers}"',
                file=sys.stderr,
            )
            return False
        before = copy.deepcopy(spec)
        for each in containers_of(spec, containers):
            if not overwrite:
                _refuse_overwriting(f"{resource.plural}/{obj['metadata']['name']}", each, wanted)
            _update(each, wanted, gone)
            if list_only:
                print(f"# {resource.kind} {obj['metadata']['name']}, container {each['name']}")
                for one in each.get("env") or []:
                    print(await _resolved(session, one, obj) if resolve else _shown(one))
        return not list_only and spec != before

    return [word for word in words or [] if not _is_change(word)], change


def _is_change(word: str) -> bool:
    return word == "-" or "=" in word or word.endswith("-")


def _variable(word: str) -> Obj:
    name, has_value, value = word.partition("=")
    if not has_value or not _NAME.fullmatch(name):
        raise CommandError(f"{word!r} is not of the form NAME=VALUE")
    return {"name": name, "value": value}


async def _from_source(session: Session, source: str, prefix: str, keys: set[str]) -> list[Obj]:
    """A variable for each key of a ConfigMap or Secret, that has its value from there."""
    kind, _, name = source.partition("/")
    resource = await session.resolve(kind)
    if resource not in (CONFIG_MAPS, SECRETS) and resource.kind not in ("ConfigMap", "Secret"):
        raise CommandError(f"unsupported resource specified in --from: {kind}")
    reference = "configMapKeyRef" if resource.kind == "ConfigMap" else "secretKeyRef"
    found = []
    for key in sorted((await session.client.get(resource, name, session.namespace)).get("data") or {}):
        if keys and key not in keys:
            continue
        variable = re.sub(r"[^A-Z0-9_]", "_", key.upper())
        if variable != key:
            print(f"Warning: key {key} transferred to {variable}", file=sys.stderr)
        found.append({"name": prefix + variable, "valueFrom": {reference: {"name": name, "key": key}}})
    return found


def _refuse_overwriting(what: str, container: Obj, wanted: list[Obj]) -> None:
    have = {each["name"]: each.get("value", "") for each in container.get("env") or []}
    for each in wanted:
        if each["name"] in have:
            raise CommandError(f"{what} '{each['name']}' already has a value ({have[each['name']]}), and --overwrite is false")


def _update(container: Obj, wanted: list[Obj], gone: set[str]) -> None:
    """Set the variables in their places, the new ones behind them, and take the others away."""
    new = {each["name"]: each for each in wanted}
    have = [each for each in container.get("env") or [] if each["name"] not in gone]
    kept = [new.pop(each["name"], each) for each in have]
    container["env"] = [*kept, *new.values()]
    if not container["env"]:
        del container["env"]


def _shown(variable: Obj) -> str:
    """One line of --list."""
    name, source = variable["name"], variable.get("valueFrom") or {}
    if found := source.get("configMapKeyRef"):
        return f"# {name} from configmap {found.get('name', '')}, key {found['key']}"
    if found := source.get("secretKeyRef"):
        return f"# {name} from secret {found.get('name', '')}, key {found['key']}"
    if found := source.get("fieldRef"):
        return f"# {name} from field path {found['fieldPath']}"
    if found := source.get("resourceFieldRef"):
        container = f"{found['containerName']}/" if found.get("containerName") else ""
        return f"# {name} from resource field {container}{found['resource']}"
    return f"{name}={variable.get('value', '')}"


async def _resolved(session: Session, variable: Obj, obj: Obj) -> str:
    """The same with the value that it has now, where that stands in a ConfigMap or a Secret."""
    source = variable.get("valueFrom") or {}
    for reference, resource in (("configMapKeyRef", CONFIG_MAPS), ("secretKeyRef", SECRETS)):
        if found := source.get(reference):
            data = (await session.client.get(resource, found["name"], obj["metadata"].get("namespace"))).get("data") or {}
            value = data.get(found["key"], "")
            text = base64.b64decode(value).decode(errors="replace") if resource is SECRETS else value
            return f"{variable['name']}={text}"
    return _shown(variable)
