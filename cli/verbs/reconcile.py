"""`auth reconcile`: roles and bindings as files say, without taking away what others have put there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from kubeling.api.errors import ApiError
from kubeling.api.rbac import compact, uncovered
from kubeling.api.resources import Resource
from kubeling.cli import flags, kustomize
from kubeling.cli.report import Reporter
from kubeling.cli.session import Obj, Session
from kubeling.cli.targets import namespace_of_manifest, resource_of_manifest

_GROUP = "rbac.authorization.k8s.io"
_RULE = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
_SUBJECT = ("kind", "apiGroup", "name", "namespace")
_TITLES = {"nonResourceURLs": "NonResourceURLs", "apiGroups": "APIGroups", "apiGroup": "APIGroup"}


async def reconcile(
    session: Session,
    filename: flags.Filenames = None,
    recursive: flags.Recursive = False,
    folder: flags.Kustomize = "",
    remove_permissions: Annotated[
        bool, typer.Option("--remove-extra-permissions", help="Take away what the files do not give.")
    ] = False,
    remove_subjects: Annotated[
        bool, typer.Option("--remove-extra-subjects", help="Take it from those the files do not name.")
    ] = False,
    form: flags.Output = "",
    dry_run: flags.DryRun = "none",
) -> int:
    """Give roles and bindings at least what files say: `kubeling auth reconcile -f rbac.yaml`. Other kinds are passed over."""
    params = flags.write_params(dry_run, "kubectl-auth-reconcile")
    reporter = Reporter(form, dry_run=dry_run)
    for each in kustomize.load(filename, folder, recursive=recursive):
        resource = await resource_of_manifest(session, each)
        if resource.group != _GROUP:
            continue
        namespace = namespace_of_manifest(session, resource, each.obj)
        wanted = _defaulted(resource, each.obj, namespace)
        try:
            live: Obj | None = await session.client.get(resource, wanted["metadata"]["name"], namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            live = None
        remove = remove_subjects if resource.kind.endswith("Binding") else remove_permissions
        action, made, notes = _plan(resource, live, wanted, remove)
        if action and dry_run != "client":
            if action == "recreate":
                await session.client.delete(resource, made["metadata"]["name"], namespace)
            write = session.client.update if action == "update" else None
            made = await (
                write(resource, made, params=params) if write else session.client.create(resource, made, namespace, params=params)
            )
        reporter.done(resource, made, "reconciled")
        if action:
            print(f"\treconciliation required {action}", file=sys.stderr)
        for title, lines in notes:
            print("\n\t\t".join([f"\t{title}", *lines]), file=sys.stderr)
    return 0


def _defaulted(resource: Resource, obj: Obj, namespace: str | None) -> Obj:
    """The object of the file, where it belongs, and with the group of users and groups, which files may leave out."""
    meta = {**obj["metadata"], **({"namespace": namespace} if namespace else {})}
    made = {**obj, "metadata": meta}
    if resource.kind.endswith("Binding"):
        made["subjects"] = [
            each if each.get("kind") == "ServiceAccount" else {"apiGroup": _GROUP, **each} for each in obj.get("subjects") or []
        ]
    return made


def _plan(resource: Resource, live: Obj | None, wanted: Obj, remove: bool) -> tuple[str, Obj, list[tuple[str, list[str]]]]:
    """(what is to be done, if anything; the object to write; what to say of it)."""
    binding = resource.kind.endswith("Binding")
    field, keys, what = ("subjects", _SUBJECT, "subjects") if binding else ("rules", _RULE, "rules")
    have, want = (live or {}).get(field) or [], wanted.get(field) or []
    missing = _missing(have, want) if binding else compact(uncovered(have, want))
    notes = [(f"missing {what} added:", [_shown(each, keys) for each in missing])] if missing else []
    if live is None:
        return "create", wanted, notes
    if binding and live.get("roleRef") != wanted.get("roleRef"):
        meta = {key: value for key, value in live["metadata"].items() if key in ("name", "namespace", "labels", "annotations")}
        return "recreate", {**wanted, "metadata": meta}, notes
    extra = _missing(want, have) if binding else compact(uncovered(want, have))
    new = [*have, *missing]
    if remove:
        notes += [(f"extra {what} removed:", [_shown(each, keys) for each in extra])] if extra else []
        new = want if extra else new
    meta = live["metadata"]
    changed = {
        key: {**(meta.get(key) or {}), **(wanted["metadata"].get(key) or {})}
        for key in ("labels", "annotations")
        if wanted["metadata"].get(key)
    }
    made = {**live, field: new, "metadata": {**meta, **changed}}
    for key in ("aggregationRule",):
        if key in wanted:
            made[key] = wanted[key]
    return ("" if made == {**live, field: have} else "update"), made, notes


def _missing(have: Iterable[Obj], want: Iterable[Obj]) -> list[Obj]:
    known = [_key(each) for each in have]
    return [each for each in want if _key(each) not in known]


def _key(subject: Obj) -> tuple[str, ...]:
    return tuple(subject.get(key, "") for key in _SUBJECT)


def _shown(thing: Obj, keys: Iterable[str]) -> str:
    """As Go prints a struct with the names of its fields."""

    def text(value: Any) -> str:
        return f"[{' '.join(value)}]" if isinstance(value, list) else str(value)

    lists = "verbs" in thing
    parts = (f"{_TITLES.get(key, key[0].upper() + key[1:])}:{text(thing.get(key, [] if lists else ''))}" for key in keys)
    return f"{{{' '.join(parts)}}}"
