"""What the handlers share: one of each, made at start-up and passed along."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kubeling.daemon.clock import Clock

if TYPE_CHECKING:
    from kubeling.apiserver.admission.chain import Chain
    from kubeling.apiserver.aggregation.availability import Availability
    from kubeling.apiserver.aggregation.registry import Aggregated
    from kubeling.apiserver.audit.auditor import Auditor
    from kubeling.apiserver.authn.authenticator import Authenticator
    from kubeling.apiserver.authn.serviceaccount import TokenIssuer
    from kubeling.apiserver.authz.authorizer import Authorizer
    from kubeling.apiserver.authz.modes import Authorization
    from kubeling.apiserver.cache.hub import Hub
    from kubeling.apiserver.config import Config
    from kubeling.apiserver.custom.definitions import Definitions
    from kubeling.apiserver.flowcontrol.gate import Gate
    from kubeling.apiserver.kubelet import KubeletDialer
    from kubeling.apiserver.outbound import Caller
    from kubeling.apiserver.registry.kinds import Kinds
    from kubeling.apiserver.storage.kv import KV
    from kubeling.apiserver.targets import Targets
    from kubeling.apiserver.usage import Usage


class Closing(Protocol):
    """A stream that can be ended, gracefully, from outside."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Context:
    """Dependencies. `draining` is set when the server is on its way out."""

    config: Config
    clock: Clock
    kv: KV
    hub: Hub
    kinds: Kinds
    definitions: Definitions
    authenticator: Authenticator
    authorizer: Authorizer
    #: The authorizers behind it.
    authorization: Authorization
    admission: Chain
    issuer: TokenIssuer | None
    random: random.Random
    kubelets: KubeletDialer
    #: Calls to webhooks, and where their servers are.
    caller: Caller
    targets: Targets
    #: Measures what nodes and pods use.
    usage: Usage = field(init=False)
    #: The groups that other servers serve, and whether these answer.
    aggregated: Aggregated = field(init=False)
    availability: Availability = field(init=False)
    #: Who may do something now, and who waits.
    gate: Gate = field(init=False)
    auditor: Auditor | None = None
    draining: bool = False
    #: Set when what every cluster has is there.
    bootstrapped: bool = False
    #: Watches and other streams that are open, ended at shutdown.
    streams: set[Closing] = field(default_factory=set)
