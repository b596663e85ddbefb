"""PodSecurity: a namespace's labels say which of the Pod Security Standards its pods are held to, and how (KEP-2579).

`enforce` refuses pods; `warn` and `audit` also look at the templates of what makes pods, since whoever writes a Deployment does not see its pods refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeling.api import errors, resources
from kubeling.api.admission.podsecurity import policy
from kubeling.api.admission.podsecurity.policy import Level, Policy, Violation
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.registry.kinds import Kinds

#: Where the template of a pod is in what makes pods.
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
_MAX_PODS = 3000


@dataclass(frozen=True, slots=True)
class Settings:
    """A PodSecurityConfiguration: what namespaces without labels are held to, and who is held to nothing."""

    defaults: Mapping[str, str] = field(default_factory=dict)
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Settings:
        """Raises ValueError for what makes no sense."""
        defaults = {policy.PREFIX + str(key): str(value) for key, value in (document.get("defaults") or {}).items()}
        unknown = set(defaults) - {policy.PREFIX + mode + end for mode in policy.MODES for end in ("", "-version")}
        if unknown:
            raise ValueError(f"defaults: {', '.join(sorted(unknown))}: unknown")
        _, wrong = policy.parse(defaults)
        if wrong:
            raise ValueError("; ".join(f"defaults: {each.body}" for each in wrong))
        exempt = document.get("exemptions") or {}
        return cls(
            defaults,
            frozenset(exempt.get("usernames") or ()),
            frozenset(exempt.get("namespaces") or ()),
            frozenset(exempt.get("runtimeClasses") or ()),
        )


_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


class PodSecurity(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, settings: Settings | None = None) -> None:
        self._kinds = kinds
        self._settings = settings or Settings()

    async def validate(self, attributes: Attributes) -> None:
        qualified = attributes.resource.qualified
        if attributes.obj is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if qualified == "namespaces" and not attributes.subresource:
            await self._namespace(attributes)
        elif qualified == "pods":
            await self._pod(attributes)
        elif qualified in _TEMPLATES and not attributes.subresource:
            await self._template(attributes)

    async def _policy(self, namespace: str) -> Policy:
        entry = await self._kinds.store(resources.NAMESPACES).peek("", namespace)
        if entry is None:
            raise errors.not_found("", "namespaces", namespace)
        return policy.parse(entry.labels, self._settings.defaults)[0]

    async def _pod(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        assert pod is not None
        if attributes.subresource not in ("", "ephemeralcontainers"):
            return
        if self._is_exempt(attributes, pod):
            return
        wanted = await self._policy(attributes.namespace)
        if all(each.name == "privileged" for each in wanted):
            return
        if old is not None and not _matters(pod, old):
            return
        attributes.notes.annotate(f"{policy.PREFIX}enforce-policy", str(wanted.enforce))
        found = _violations(wanted.enforce, pod)
        if found:
            _note(attributes, wanted.audit, pod)
            why = f'violates PodSecurity "{wanted.enforce}": {policy.text_of(found)}'
            raise errors.forbidden("", "pods", attributes.name, why)
        _tell(attributes, wanted, pod)

    def _is_exempt(self, attributes: Attributes, pod: Mapping[str, Any]) -> bool:
        """Whether nothing is asked of the pod, for its namespace's, its user's or its runtime's sake."""
        settings = self._settings
        why = ""
        if attributes.namespace in settings.namespaces:
            why = "namespace"
        elif attributes.user.name in settings.usernames:
            why = "user"
        elif (pod.get("spec") or {}).get("runtimeClassName") in settings.runtime_classes:
            why = "runtimeClass"
        if why:
            attributes.notes.annotate(f"{policy.PREFIX}exempt", why)
        return bool(why)

    async def _template(self, attributes: Attributes) -> None:
        template: Any = attributes.obj
        for key in _TEMPLATES[attributes.resource.qualified]:
            template = (template or {}).get(key)
        if not template or self._is_exempt(attributes, template):
            return
        wanted = await self._policy(attributes.namespace)
        if wanted.audit.name != "privileged" or wanted.warn.name != "privileged":
            _tell(attributes, wanted, template)

    async def _namespace(self, attributes: Attributes) -> None:
        """The labels have to make sense; and who makes them stricter hears which pods are in the way already."""
        obj, old = attributes.obj, attributes.old
        assert obj is not None
        new, wrong = policy.parse(obj["metadata"].get("labels"))
        before, wrong_before = policy.parse(old["metadata"].get("labels")) if old is not None else (Policy(), [])
        if wrong and not (old is not None and wrong_before):
            raise errors.invalid("Namespace", "", attributes.name, wrong)
        if old is None or new.enforce == before.enforce or _is_weaker(new.enforce, before.enforce):
            return
        for text in await self._present(attributes.name, new.enforce):
            attributes.notes.warn(text)

    async def _present(self, namespace: str, level: Level) -> list[str]:
        """Which pods break the level: one line for each set of reasons."""
        store = self._kinds.store(resources.PODS)
        await store.cache.ready()
        by_reasons: dict[str, list[str]] = {}
        for number, entry in enumerate(store.cache.entries(store.collection(namespace))):
            if number >= _MAX_PODS:
                break
            found = _violations(level, entry.object())
            if found:
                by_reasons.setdefault(", ".join(each.reason for each in found), []).append(entry.name)
        if not by_reasons:
            return []
        lines = [f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"']
        texts = []
        for reasons, names in by_reasons.items():
            more = len(names) - 1
            others = "" if not more else f" (and {more} other {'pod' if more == 1 else 'pods'})"
            texts.append(f"{names[0]}{others}: {reasons}")
        return lines + sorted(texts)


def _is_weaker(new: Level, old: Level) -> bool:
    order = policy.LEVELS.index
    return new.name == "privileged" or (order(new.name) < order(old.name) and new.minor == old.minor)


def _violations(level: Level, pod: Mapping[str, Any]) -> list[Violation]:
    return policy.violations(level, pod.get("metadata") or {}, pod.get("spec") or {})


def _tell(attributes: Attributes, wanted: Policy, pod: Mapping[str, Any]) -> None:
    """Warn, and record, what a pod breaks that is let in."""
    _note(attributes, wanted.audit, pod)
    found = _violations(wanted.warn, pod)
    if found:
        attributes.notes.warn(f'would violate PodSecurity "{wanted.warn}": {policy.text_of(found)}')


def _note(attributes: Attributes, level: Level, pod: Mapping[str, Any]) -> None:
    found = _violations(level, pod)
    if found:
        text = f'would violate PodSecurity "{level}": {policy.text_of(found)}'
        attributes.notes.annotate(f"{policy.PREFIX}audit-violations", text)


def _matters(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether an update of a pod touches what the standards look at: images stand for what the containers do."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        after, before = ((each.get("spec") or {}).get(kind) or [] for each in (new, old))
        if [each.get("image") for each in after] != [each.get("image") for each in before]:
            return True
    return _profiles(new) != _profiles(old)


def _profiles(pod: Mapping[str, Any]) -> dict[str, str]:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    return {key: value for key, value in annotations.items() if key.startswith(_APPARMOR)}
