"""`--authorization-mode=Webhook`: a SubjectAccessReview to a server elsewhere decides."""

from __future__ import annotations

from typing import Any

from kubeling.apiserver.authn.user import User
from kubeling.apiserver.authz.authorizer import NO_OPINION, Attributes, Decision, RuleList
from kubeling.apiserver.webhookclient import Remembered, Webhook, WebhookFailed
from kubeling.daemon.clock import Clock
from kubeling.daemon.log import get_logger

log = get_logger("authz")

#: Larger questions are not remembered.
_MAX_KEY = 10_000


class WebhookAuthorizer:
    """Asks the webhook; where it cannot say, nobody is allowed by it."""

    def __init__(
        self,
        webhook: Webhook,
        version: str,
        allowed_seconds: float,
        refused_seconds: float,
        clock: Clock,
        *,
        failed: Decision = NO_OPINION,
    ) -> None:
        self._failed = failed
        self._webhook = webhook
        self._version = version
        self._seconds = {True: allowed_seconds, False: refused_seconds}
        self._known = Remembered(clock)

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`.authorizer.Authorizer`."""
        user = attributes.user
        extra = tuple(sorted(user.extra.items()))
        key = (user.name, user.groups, user.uid, extra, *attributes[1:])
        found: Decision | None = self._known.get(key)
        if found is not None:
            return found
        try:
            status = await self._webhook.review(review_of(attributes, self._version))
        except WebhookFailed as error:
            log.warning("the authorization webhook could not say what is allowed", error=str(error))
            return self._failed
        allowed, denied = status.get("allowed") is True, status.get("denied") is True
        if allowed and denied:
            log.warning("the authorization webhook both allows and denies", user=user.name)
            return NO_OPINION
        found = Decision(allowed, str(status.get("reason") or ""), denied)
        if sum(len(str(each)) for each in (user.name, *user.groups, *attributes[1:])) < _MAX_KEY:
            self._known.put(key, found, self._seconds[allowed])
        return found

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`.authorizer.Authorizer`."""
        return RuleList([], [], True, "webhook authorizer does not support user rule resolution")


def review_of(attributes: Attributes, version: str) -> dict[str, Any]:
    """The SubjectAccessReview for a question."""
    user = attributes.user
    spec: dict[str, Any] = {"user": user.name}
    if user.groups:
        spec["group" if version == "v1beta1" else "groups"] = list(user.groups)
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if attributes.resource:
        asked = {
            "namespace": attributes.namespace,
            "verb": attributes.verb,
            "group": attributes.group,
            "version": attributes.version,
            "resource": attributes.resource,
            "subresource": attributes.subresource,
            "name": attributes.name,
        }
        spec["resourceAttributes"] = {key: value for key, value in asked.items() if value} | attributes.selected.attributes()
    else:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    return {"apiVersion": f"authorization.k8s.io/{version}", "kind": "SubjectAccessReview", "spec": spec}
