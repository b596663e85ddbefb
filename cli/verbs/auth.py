"""`auth can-i` and `auth whoami`: the server is asked by a review."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kubeling.cli import flags, output
from kubeling.cli.session import CommandError, Obj, Session

_VERBS = frozenset(
    (
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "use",
        "bind",
        "impersonate",
        "*",
        "approve",
        "sign",
        "escalate",
        "attest",
        "proxy",
    )
)
_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_AUTHENTICATION = "/apis/authentication.k8s.io/v1"


async def can_i(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="VERB TYPE[/NAME] | VERB /path")] = None,
    all_namespaces: flags.AllNamespaces = False,
    subresource: Annotated[str, typer.Option("--subresource", help="Such as log or status.")] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing; the exit status tells.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="All that is allowed.")] = False,
) -> int:
    """Whether one may: `kubeling auth can-i delete pods`. Exits 0 for yes, 1 for no."""
    if list_all:
        return await _list(session)
    if not words or len(words) not in (2, 3):
        raise CommandError(
            "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'kubeling auth can-i -h' for help and examples."
        )
    action, what, warnings = words[0], words[1], list[str]()
    if what.startswith("/"):
        spec: Obj = {"nonResourceAttributes": {"verb": action, "path": what}}
    else:
        word, _, name = what.partition("/")
        attributes = await _attributes(session, word, warnings)
        attributes |= {"verb": action, "name": name or "".join(words[2:]), "subresource": subresource}
        if all_namespaces:
            attributes["namespace"] = ""
        spec = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
        if action not in _VERBS:
            warnings.append(f"verb '{action}' is not a known verb")
    for text in [] if quiet else warnings:
        print(f"Warning: {text}\n", file=sys.stderr)
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = (await session.client.request("POST", f"{_AUTHORIZATION}/selfsubjectaccessreviews", body=body)).get("status") or {}
    allowed = bool(answer.get("allowed"))
    if not quiet:
        reasons = [] if allowed else [answer[key] for key in ("reason", "evaluationError") if answer.get(key)]
        print(" - ".join(["yes" if allowed else "no", *reasons]))
    return 0 if allowed else 1


async def _attributes(session: Session, word: str, warnings: list[str]) -> Obj:
    """What a kind is to an authorizer, and in which namespace; what is odd about it is added to `warnings`."""
    if word == "*":
        return {"group": "*", "resource": "*", "namespace": session.namespace}
    try:
        resource = await session.resolve(word)
    except CommandError:
        warnings.append(f"the server doesn't have a resource type '{word}'")
        return {"resource": word, "namespace": session.namespace}
    if not resource.namespaced:
        of_group = f" in group '{resource.group}'" if resource.group else ""
        warnings.append(f"resource '{resource.plural}' is not namespace scoped{of_group}")
    namespace = session.namespace if resource.namespaced else ""
    return {"group": resource.group, "version": resource.version, "resource": resource.plural, "namespace": namespace}


async def _list(session: Session) -> int:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": session.namespace},
    }
    answer = (await session.client.request("POST", f"{_AUTHORIZATION}/selfsubjectrulesreviews", body=body)).get("status") or {}
    if answer.get("incomplete"):
        print(f"warning: the list may be incomplete: {answer.get('evaluationError', '')}", file=sys.stderr)
    rows = [["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]]
    for rule in answer.get("resourceRules") or []:
        groups, kinds = rule.get("apiGroups") or [""], rule.get("resources") or []
        names = [f"{kind}.{group}" if group else kind for group in groups for kind in kinds]
        rows.append([",".join(names), "[]", _words(rule.get("resourceNames")), _words(rule.get("verbs"))])
    for rule in answer.get("nonResourceRules") or []:
        rows.append(["", _words(rule.get("nonResourceURLs")), "[]", _words(rule.get("verbs"))])
    sys.stdout.write(output.align(rows))
    return 0


def _words(values: list[str] | None) -> str:
    return f"[{' '.join(values or [])}]"


async def whoami(session: Session, form: flags.Output = "") -> int:
    """Who the server takes one for."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await session.client.request("POST", f"{_AUTHENTICATION}/selfsubjectreviews", body=body)
    if form:
        sys.stdout.write(output.printer(form)(answer))
        return 0
    user = (answer.get("status") or {}).get("userInfo") or {}
    rows = [["ATTRIBUTE", "VALUE"], ["Username", str(user.get("username", ""))]]
    if user.get("uid"):
        rows.append(["UID", str(user["uid"])])
    if user.get("groups"):
        rows.append(["Groups", _words(user["groups"])])
    for key, values in sorted((user.get("extra") or {}).items()):
        rows.append([f"Extra: {key}", _words(values)])
    sys.stdout.write(output.align(rows))
    return 0
