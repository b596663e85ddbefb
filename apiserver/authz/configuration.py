"""`--authorization-config`: an AuthorizationConfiguration names the authorizers in their order; a webhook has conditions, and a say in what its failure means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeling.api import cel
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.authz.authorizer import NO_OPINION, Attributes, Decision, RuleList
from kubeling.apiserver.authz.webhook import WebhookAuthorizer, review_of
from kubeling.apiserver.configfile import Section, load
from kubeling.apiserver.webhookclient import Webhook
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger
from kubeling.daemon.main import UsageError

log = get_logger("authz")

FLAG = "--authorization-config"
VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1")
TYPES = ("Webhook", "Node", "RBAC", "AlwaysAllow", "AlwaysDeny")
_REQUEST = cel.environment(request=cel.DYN)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_MAX_CONDITIONS = 64


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """One webhook of the file; times in seconds, 0 for answers that are not remembered."""

    kubeconfig: str
    timeout: float
    version: str
    allowed_seconds: float
    refused_seconds: float
    deny_on_failure: bool
    conditions: tuple[cel.Program, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One authorizer: its type, its name, and for a webhook the rest."""

    type: str
    name: str
    webhook: WebhookOptions | None = None


def read(path: str) -> list[Entry]:
    """Read the file. UsageError for what cannot be used."""
    document = load(FLAG, path, "AuthorizationConfiguration", VERSIONS)
    found: list[Entry] = []
    for section in document.sections("authorizers"):
        kind, name = section.text("type", one_of=TYPES), section.text("name")
        if not _NAME.fullmatch(name):
            raise section.wrong("name", f"Invalid value: {name!r}: has to be a DNS name")
        if any(each.name == name for each in found):
            raise section.wrong("name", f"Duplicate value: {name!r}")
        if kind != "Webhook" and any(each.type == kind for each in found):
            raise section.wrong("type", f"Duplicate value: {kind!r}")
        webhook = section.section("webhook")
        if (webhook is not None) != (kind == "Webhook"):
            raise section.wrong("webhook", "has to be there for the type Webhook, and for no other")
        found.append(Entry(kind, name, None if webhook is None else _webhook(webhook, path)))
        section.end()
    document.end()
    if not found:
        raise document.wrong("authorizers", "Required value: at least one authorization mode must be defined")
    return found


def _webhook(section: Section, path: str) -> WebhookOptions:
    timeout = section.seconds("timeout", 0)
    if not 0 < timeout <= 30:
        raise section.wrong("timeout", "Invalid value: must be more than 0s and at most 30s")
    allowed, refused = section.seconds("authorizedTTL", 300), section.seconds("unauthorizedTTL", 30)
    if allowed < 0 or refused < 0:
        raise section.wrong("authorizedTTL", "Invalid value: times must not be negative")
    allowed *= section.flag("cacheAuthorizedRequests", True)
    refused *= section.flag("cacheUnauthorizedRequests", True)
    version = section.text("subjectAccessReviewVersion", one_of=("v1", "v1beta1"))
    policy = section.text("failurePolicy", one_of=("NoOpinion", "Deny"))
    connection = section.section("connectionInfo")
    if connection is None:
        raise section.wrong("connectionInfo", "Required value")
    connection.text("type", one_of=("KubeConfigFile",))
    kubeconfig = connection.text("kubeConfigFile")
    connection.end()
    conditions = tuple(_condition(each) for each in section.sections("matchConditions"))
    if len(conditions) > _MAX_CONDITIONS:
        raise section.wrong("matchConditions", f"Too many: must have at most {_MAX_CONDITIONS} items")
    if section.text("matchConditionSubjectAccessReviewVersion", "") not in (("v1",) if conditions else ("", "v1")):
        raise section.wrong("matchConditionSubjectAccessReviewVersion", "has to be v1 where there are matchConditions")
    section.end()
    place = str(Path(path).parent / kubeconfig)
    return WebhookOptions(place, timeout, version, allowed, refused, policy == "Deny", conditions)


def _condition(section: Section) -> cel.Program:
    source = section.text("expression")
    section.end()
    try:
        program = _REQUEST.compile(source)
    except cel.CompileError as error:
        raise section.wrong("expression", f"Invalid value: {source!r}: {error}") from error
    if program.result not in ("bool", "dyn"):
        raise section.wrong("expression", f"Invalid value: {source!r}: must evaluate to bool")
    return program


class ConditionalWebhook:
    """A webhook that is asked where its conditions hold."""

    def __init__(self, name: str, options: WebhookOptions, clock: Clock) -> None:
        self._name = name
        self._conditions = options.conditions
        self._failed = Decision(False, f"the authorizer {name} failed", True) if options.deny_on_failure else NO_OPINION
        webhook = Webhook(FLAG, options.kubeconfig, clock, timeout=options.timeout)
        self._webhook = WebhookAuthorizer(
            webhook, options.version, options.allowed_seconds, options.refused_seconds, clock, failed=self._failed
        )

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`.authorizer.Authorizer`."""
        if self._conditions:
            request = _full(review_of(attributes, "v1")["spec"])
            problem = ""
            for each in self._conditions:
                try:
                    if each.run({"request": request}) is not True:
                        return NO_OPINION
                except cel.EvaluationError as error:
                    problem = problem or f"expression {each.source!r} resulted in error: {error}"
            if problem:
                # One that is false counts more than one without a value.
                log.warning("the conditions of an authorization webhook have no value", authorizer=self._name, error=problem)
                return self._failed
        return await self._webhook.authorize(attributes)

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`.authorizer.Authorizer`."""
        return await self._webhook.rules(user, namespace)


_TEXTS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


def _full(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What conditions see: the attributes that are empty are there as empty texts, so that naming one is no error."""
    found = {"user": "", "groups": [], "uid": "", "extra": {}, **spec}
    if "resourceAttributes" in found:
        found["resourceAttributes"] = dict.fromkeys(_TEXTS, "") | found["resourceAttributes"]
    return found


def check(modes: tuple[str, ...], webhook: str) -> None:
    """Raise UsageError where flags say the same as the file."""
    if modes or webhook:
        raise UsageError(f"{FLAG} cannot be given together with --authorization-mode and --authorization-webhook-config-file")
