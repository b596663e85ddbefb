"""`--authorization-mode`: the authorizers that were asked for, in that order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubeling.apiserver.authoptions import AuthOptions
from kubeling.apiserver.authz.authorizer import AlwaysAllow, AlwaysDeny, Authorizer, Union
from kubeling.apiserver.authz.graph import Graph
from kubeling.apiserver.authz.node import NodeAuthorizer
from kubeling.apiserver.authz.rbac import Rbac
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError

MODES = ("Node", "RBAC", "Webhook", "AlwaysAllow", "AlwaysDeny")


@dataclass(slots=True)
class Authorization:
    """The authorizer that is asked, and those behind it that have work of their own (None where they were not asked for)."""

    authorizer: Union
    rbac: Rbac | None = None
    node: NodeAuthorizer | None = None

    async def run(self) -> None:
        """Do that work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in (self.rbac, self.node):
                if each is not None:
                    group.create_task(each.run())


def make(options: AuthOptions, kinds: Kinds, clock: Clock) -> Authorization:
    """From the flags. UsageError for an unknown mode, or one twice."""
    modes = options.modes
    if not modes or len(set(modes)) != len(modes):
        raise UsageError("--authorization-mode: name at least one mode, and none twice")
    rbac: Rbac | None = None
    node: NodeAuthorizer | None = None
    found: list[Authorizer] = []
    for mode in modes:
        if mode == "RBAC":
            rbac = Rbac(kinds)
            found.append(rbac)
        elif mode == "Node":
            node = NodeAuthorizer(Graph(kinds))
            found.append(node)
        elif mode == "Webhook":
            found.append(_webhook(options, clock))
        elif mode == "AlwaysAllow":
            found.append(AlwaysAllow())
        elif mode == "AlwaysDeny":
            found.append(AlwaysDeny())
        elif mode not in MODES:
            raise UsageError(f"--authorization-mode: {mode} is none of {', '.join(MODES)}")
    return Authorization(Union(found), rbac, node)


def _webhook(options: AuthOptions, clock: Clock) -> Authorizer:
    if not options.authorization_webhook:
        raise UsageError("--authorization-webhook-config-file has to be given with --authorization-mode=Webhook")
    from kubeling.apiserver.authz.webhook import WebhookAuthorizer
    from kubeling.apiserver.webhookclient import Webhook

    return WebhookAuthorizer(
        Webhook("--authorization-webhook-config-file", options.authorization_webhook, clock),
        options.authorization_webhook_version,
        options.authorization_webhook_allowed_seconds,
        options.authorization_webhook_refused_seconds,
        clock,
    )
