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
    if options.authorization_config:
        from kubeling.apiserver.authz import configuration

        configuration.check(options.modes, options.authorization_webhook)
        entries = configuration.read(options.authorization_config)
    else:
        modes = options.modes or ("Node", "RBAC")
        if len(set(modes)) != len(modes):
            raise UsageError("--authorization-mode: name at least one mode, and none twice")
        entries = None
    made = Authorization(Union(()))
    found: list[Authorizer] = []
    if entries is None:
        found += [_webhook(options, clock) if mode == "Webhook" else _mode(mode, made, kinds) for mode in modes]
    else:
        for entry in entries:
            if entry.webhook is None:
                found.append(_mode(entry.type, made, kinds))
            else:
                found.append(configuration.ConditionalWebhook(entry.name, entry.webhook, clock))
    made.authorizer = Union(found)
    return made


def _mode(mode: str, made: Authorization, kinds: Kinds) -> Authorizer:
    if mode == "RBAC":
        made.rbac = Rbac(kinds)
        return made.rbac
    if mode == "Node":
        made.node = NodeAuthorizer(Graph(kinds))
        return made.node
    if mode == "AlwaysAllow":
        return AlwaysAllow()
    if mode == "AlwaysDeny":
        return AlwaysDeny()
    raise UsageError(f"--authorization-mode: {mode} is none of {', '.join(MODES)}")


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
