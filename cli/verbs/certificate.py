"""`certificate approve` and `certificate deny`: what becomes of a CertificateSigningRequest."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from kubeling.api.resources import Resource
from kubeling.api.times import format_time
from kubeling.cli import flags
from kubeling.cli.report import Reporter
from kubeling.cli.session import CommandError, Obj, Session
from kubeling.cli.targets import targets_of
from kubeling.client.rest import retry_on_conflict
from kubeling.daemon.clock import SystemClock

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME…")]
Force = Annotated[bool, typer.Option("--force", help="Write it again although it is so already.")]


#: What is decided → the condition, the one that rules it out, and the past tense.
_WORDS = {"approve": ("Approved", "Denied", "approved"), "deny": ("Denied", "Approved", "denied")}


def _verb(verb: str, text: str) -> Callable[..., Coroutine[Any, Any, int]]:
    """The command for a decision: both have the same flags."""

    async def command(
        session: Session,
        names: Names = None,
        filename: flags.Filenames = None,
        recursive: flags.Recursive = False,
        folder: flags.Kustomize = "",
        force: Force = False,
        form: flags.Output = "",
    ) -> int:
        if not names and not filename and not folder:
            raise CommandError("one or more CSRs must be specified as <name> or -f <filename>")
        words = ["certificatesigningrequests", *names] if names else []
        reporter = Reporter(form)
        for target in await targets_of(session, words, filenames=filename or [], folder=folder, recursive=recursive):
            if target.resource.kind != "CertificateSigningRequest":
                raise CommandError(f"can only handle CertificateSigningRequests, not a {target.resource.kind}")
            made = await retry_on_conflict(lambda one=target: _write(session, one.resource, one.name or "", verb, force))
            reporter.done(target.resource, made, _WORDS[verb][2])
        return 0

    command.__name__, command.__doc__ = verb, text
    return command


approve = _verb("approve", "Approve requests: `kubeling certificate approve eve`. Its signer may then issue the certificate.")
deny = _verb("deny", "Deny requests: `kubeling certificate deny eve`.")


async def _write(session: Session, resource: Resource, name: str, verb: str, force: bool) -> Obj:
    wanted, other, past = _WORDS[verb]
    request = await session.client.get(resource, name)
    conditions = list((request.get("status") or {}).get("conditions") or [])
    if any(each["type"] == other for each in conditions):
        raise CommandError(f'certificate signing request "{name}" is already {other}')
    have = [each for each in conditions if each["type"] == wanted]
    if have and not force:
        return request
    now = format_time(SystemClock().now())
    decision = {
        "type": wanted,
        "status": "True",
        "reason": f"Kubectl{verb.capitalize()}",
        "message": f"This CSR was {past} by kubectl certificate {verb}.",
        "lastUpdateTime": now,
    }
    kept = [each for each in conditions if each["type"] != wanted]
    changed = {**request, "status": {**(request.get("status") or {}), "conditions": [*kept, decision]}}
    return await session.client.update(resource, changed, subresource="approval")
