"""`set`: one thing of objects, such as an image or a service account. Each verb changes a copy; what differs is sent as a patch."""

from __future__ import annotations

import copy
import fnmatch
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Annotated, Any, cast

import typer

from kubeling.api.resources import Resource
from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import Chosen
from kubeling.cli.threeway import patch_type_of, schema_of, three_way

Containers = Annotated[str, typer.Option("-c", "--containers", help="Which containers; * stands for any letters.")]
Changed = Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME NAME=VALUE…")]
MANAGER = "kubectl-set"


Change = Callable[[Resource, Obj], bool | Awaitable[bool]]
Plan = Callable[..., Any]


def setter(done: str) -> Callable[[Plan], Callable[..., Coroutine[Any, Any, int]]]:
    """Make a verb of a plan: from the plan's own flags to the words that name objects, and to how one object changes.

    A plan that is a coroutine function gets the Session first. The change alters a copy and says whether there is anything to send. The flags that all have are added.
    """

    def make(plan: Plan) -> Callable[..., Coroutine[Any, Any, int]]:
        async def command(
            session: Session,
            filename: flags.Filenames = None,
            recursive: flags.Recursive = False,
            folder: flags.Kustomize = "",
            selector: flags.Selector = "",
            all_of_them: flags.All = False,
            local: flags.Local = False,
            form: flags.Output = "",
            dry_run: flags.DryRun = "none",
            field_manager: flags.FieldManager = MANAGER,
            **own: Any,
        ) -> int:
            things, change = await plan(session, **own) if online else plan(**own)
            what = Chosen(things, filename or [], folder, recursive, selector=selector, all_of_them=all_of_them, local=local)
            return await change_each(session, what, change, done, form, dry_run, field_manager)

        online = inspect.iscoroutinefunction(plan)
        shared = list(inspect.signature(command, eval_str=True).parameters.values())
        own = list(inspect.signature(plan, eval_str=True).parameters.values())[online:]
        command.__signature__ = inspect.Signature([shared[0], *own, *shared[1:-1]])  # type: ignore[attr-defined]
        command.__name__, command.__doc__ = plan.__name__, plan.__doc__
        return command

    return make


async def change_each(
    session: Session,
    what: Chosen,
    change: Change,
    done: str,
    form: str,
    dry_run: str,
    field_manager: str,
) -> int:
    """Let `change` alter a copy of each object (it says whether there is anything to send), send what differs, and say that it was `done`."""
    params = flags.write_params(dry_run, field_manager)
    reporter = Reporter(form, dry_run=dry_run, together=True)
    for resource, obj in await what.objects(session):
        made = copy.deepcopy(obj)
        to_send = change(resource, made)
        if not (await to_send if inspect.isawaitable(to_send) else to_send):
            continue
        if not what.local and dry_run != "client":
            patch = three_way(obj, obj, made, schema_of(resource))
            meta = obj["metadata"]
            made = await session.client.patch(
                resource, meta["name"], patch, meta.get("namespace"), patch_type=patch_type_of(resource), params=params
            )
        reporter.done(resource, made, done)
    reporter.finish()
    return 0


def pod_spec(resource: Resource, obj: Obj) -> Obj:
    """The part of an object that describes pods. Raises CommandError where it has none."""
    path: tuple[str, ...]
    if resource.kind == "Pod":
        path = ("spec",)
    elif resource.kind == "CronJob":
        path = ("spec", "jobTemplate", "spec", "template", "spec")
    elif resource.kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "ReplicationController"):
        path = ("spec", "template", "spec")
    else:
        raise CommandError(f"{resource.qualified} have no containers")
    spec: Any = obj
    for part in path:
        spec = spec.setdefault(part, {})
    return cast(Obj, spec)


def containers_of(spec: Obj, pattern: str, *, init: bool = True) -> list[Obj]:
    """The containers whose names match, those that initialize first. Raises CommandError for none."""
    all_of_them: Iterable[Obj] = [*((spec.get("initContainers") or []) if init else []), *(spec.get("containers") or [])]
    found = [each for each in all_of_them if fnmatch.fnmatchcase(each["name"], pattern)]
    if not found:
        raise CommandError(f"unable to find container named {pattern}")
    return found


@setter("image updated")
def image(
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME CONTAINER=IMAGE…")] = None,
) -> tuple[Sequence[str], Change]:
    """Change containers' images: `kubeling set image deploy/web web=nginx:2`; `*` means all containers."""
    images = dict(word.split("=", 1) for word in words or [] if "=" in word)
    if not images:
        raise CommandError("at least one image update is required")
    things = [word for word in words or [] if "=" not in word]

    def change(resource: Resource, obj: Obj) -> bool:
        changed, spec = False, pod_spec(resource, obj)
        for name, wanted in images.items():
            if name != "*" and not any(each["name"] == name for each in containers_of(spec, "*")):
                raise CommandError(f'unable to find container named "{name}"')
            for each in containers_of(spec, name.replace("[", "[[]")):
                changed = changed or each.get("image") != wanted
                each["image"] = wanted
        return changed

    return things, change


@setter("resource requirements updated")
def resources(
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME")] = None,
    limits: Annotated[str, typer.Option("--limits", help="Such as cpu=100m,memory=64Mi.")] = "",
    requests: Annotated[str, typer.Option("--requests", help="Such as cpu=100m,memory=64Mi.")] = "",
    containers: Containers = "*",
) -> tuple[Sequence[str], Change]:
    """Change what containers ask for and may use: `kubeling set resources deploy/web --requests=cpu=100m --limits=memory=64Mi`."""
    wanted = {"limits": _quantities(limits), "requests": _quantities(requests)}
    if not any(wanted.values()):
        raise CommandError("you must specify an update to requests or limits (in the form of --requests/--limits)")

    def change(resource: Resource, obj: Obj) -> bool:
        changed = False
        for each in containers_of(pod_spec(resource, obj), containers, init=False):
            have = each.setdefault("resources", {})
            for kind, amounts in wanted.items():
                changed = changed or any((have.get(kind) or {}).get(name) != amount for name, amount in amounts.items())
                if amounts:
                    have[kind] = {**(have.get(kind) or {}), **amounts}
        return changed

    return words or [], change


def _quantities(text: str) -> dict[str, str]:
    from kubeling.api.quantity import canonical

    found: dict[str, str] = {}
    for each in text.split(",") if text else []:
        name, has_value, value = each.partition("=")
        if not has_value or not name:
            raise CommandError(f"Invalid argument syntax {each}, expected <resource>=<value>")
        try:
            found[name] = canonical(value)
        except ValueError as error:
            raise CommandError(f"{value!r} is not a quantity: {error}") from error
    return found


@setter("serviceaccount updated")
def serviceaccount(
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME ACCOUNT")] = None,
) -> tuple[Sequence[str], Change]:
    """Change the account that pods run as: `kubeling set serviceaccount deploy/web builder`."""
    if not words:
        raise CommandError("serviceaccount is required")

    def change(resource: Resource, obj: Obj) -> bool:
        spec = pod_spec(resource, obj)
        spec["serviceAccountName"] = words[-1]
        return True

    return words[:-1], change


@setter("subjects updated")
def subject(
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME")] = None,
    users: Annotated[list[str] | None, typer.Option("--user", help="May be repeated.")] = None,
    groups: Annotated[list[str] | None, typer.Option("--group", help="May be repeated.")] = None,
    accounts: Annotated[list[str] | None, typer.Option("--serviceaccount", help="NAMESPACE:NAME; may be repeated.")] = None,
) -> tuple[Sequence[str], Change]:
    """Add to those whom a binding gives rights: `kubeling set subject rolebinding readers --user=eve`."""
    wanted = subjects(users, groups, accounts)
    if not wanted:
        raise CommandError("you must specify at least one value of user, group or serviceaccount")

    def change(resource: Resource, obj: Obj) -> bool:
        if resource.kind not in ("RoleBinding", "ClusterRoleBinding"):
            raise CommandError("setting subject is only supported for (Cluster)RoleBinding")
        have = obj.get("subjects") or []
        missing = [each for each in wanted if each not in have]
        obj["subjects"] = [*have, *missing]
        return bool(missing)

    return words or [], change


def subjects(users: list[str] | None, groups: list[str] | None, accounts: list[str] | None) -> list[Obj]:
    """The subjects of a binding. Raises CommandError for an account without its namespace."""
    found: list[Obj] = []
    for kind, names in (("User", users), ("Group", groups)):
        found += [{"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name} for name in names or []]
    for account in accounts or []:
        namespace, _, name = account.partition(":")
        if not namespace or not name or ":" in name:
            raise CommandError("serviceaccount must be <namespace>:<name>")
        found.append({"kind": "ServiceAccount", "name": name, "namespace": namespace})
    return found


@setter("selector updated")
def selector(
    words: Annotated[list[str] | None, typer.Argument(metavar="TYPE/NAME KEY=VALUE,…")] = None,
    resource_version: Annotated[str, typer.Option("--resource-version", help="Change only this version of the object.")] = "",
) -> tuple[Sequence[str], Change]:
    """Change which pods a Service is for: `kubeling set selector service web app=web,tier=front`."""
    if not words:
        raise CommandError("one or more resources must be specified as <resource> <name> or <resource>/<name>")
    wanted = dict(each.split("=", 1) for each in words[-1].split(",") if "=" in each)
    if len(wanted) != len(words[-1].split(",")):
        raise CommandError(f"{words[-1]!r} is not a selector: write KEY=VALUE,…")

    def change(resource: Resource, obj: Obj) -> bool:
        if resource.kind != "Service":
            raise CommandError("setting a selector is only supported for Services")
        obj["spec"]["selector"] = wanted
        if resource_version:
            obj["metadata"]["resourceVersion"] = resource_version
        return True

    return words[:-1], change
