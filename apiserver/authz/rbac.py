"""RBAC: what bindings give to a user, answered out of memory.

Roles and bindings are followed in the watch caches. A question costs two look-ups in dicts: the user's access (all rules that bindings give to the name and its groups,
cluster-wide and for each namespace), and in it what was found out before about the same verb and resource. Any change of a role or a binding throws
both away; they are made again from the index of bindings by subject when they are next needed.

Until the caches are filled and the bootstrap policy is there (see :mod:`.reconcile`), requests wait instead of being refused for the lack of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kubeling.api import errors, resources
from kubeling.api.rbac import Rule, path_matches, resource_matches, verb_matches
from kubeling.apiserver.authn.user import User
from kubeling.apiserver.authz.authorizer import Attributes, Decision, RuleList
from kubeling.apiserver.cache.entry import Entry
from kubeling.apiserver.cache.follower import Follower, follow
from kubeling.apiserver.cache.watcher import Event
from kubeling.apiserver.registry.kinds import Kinds

_CLUSTER = ""
#: What is answered while nothing is known yet: whether the server is well is asked before it is.
_HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
#: How long a request waits for the policy of a server that has just been started.
_PATIENCE = 10.0
_MAX_USERS, _MAX_ANSWERS = 4096, 2048


class Binding(NamedTuple):
    """A RoleBinding (`namespace` is set) or a ClusterRoleBinding."""

    namespace: str
    name: str
    #: Namespace (empty for a ClusterRole) and name of the role.
    role: tuple[str, str]
    subjects: tuple[tuple[str, str], ...]

    def reason(self, subject: tuple[str, str]) -> str:
        """Why a rule of the role applies, in upstream's words."""
        kind, name = subject
        if kind == "User" and name.startswith("system:serviceaccount:"):
            _, _, space, account = name.split(":", 3)
            who = f'ServiceAccount "{account}/{space}"'
        else:
            who = f'{kind} "{name}"'
        role = f'{"Role" if self.role[0] else "ClusterRole"} "{self.role[1]}"'
        own = f'RoleBinding "{self.name}/{self.namespace}"' if self.namespace else f'ClusterRoleBinding "{self.name}"'
        return f"RBAC: allowed by {own} of {role} to {who}"


class Access:
    """What some bindings give: rules with the reason for each, and the roles that were not found."""

    __slots__ = ("_answers", "missing", "rules")

    def __init__(self, rules: list[tuple[Rule, str]], missing: list[str]) -> None:
        self.rules = rules
        self.missing = missing
        #: (verb, group, resource, subresource) → the reason why all objects are allowed, and those for single names.
        self._answers: dict[tuple[str, str, str, str], tuple[str, dict[str, str]]] = {}

    def resource(self, verb: str, group: str, resource: str, subresource: str, name: str) -> str:
        """Why it is allowed, empty where it is not."""
        key = (verb, group, resource, subresource)
        found = self._answers.get(key)
        if found is None:
            found = self._find(*key)
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[key] = found
        return found[0] or found[1].get(name, "")

    def _find(self, verb: str, group: str, resource: str, subresource: str) -> tuple[str, dict[str, str]]:
        named: dict[str, str] = {}
        for rule, reason in self.rules:
            if verb_matches(rule, verb) and resource_matches(rule, group, resource, subresource):
                names = rule.get("resourceNames")
                if not names:
                    return reason, {}
                for each in names:
                    named.setdefault(each, reason)
        return "", named

    def path(self, verb: str, path: str) -> str:
        """Why it is allowed, empty where it is not."""
        for rule, reason in self.rules:
            if verb_matches(rule, verb) and path_matches(rule, path):
                return reason
        return ""


_NOTHING = Access([], [])


class Rbac:
    """The authorizer. :meth:`followers` are to be run as tasks."""

    def __init__(self, kinds: Kinds) -> None:
        self._roles: dict[tuple[str, str], Entry] = {}
        self._rules: dict[tuple[str, str], list[Rule]] = {}
        self._bindings: dict[tuple[str, str], Binding] = {}
        #: Namespace → subject → bindings.
        self._index: dict[str, dict[tuple[str, str], dict[tuple[str, str], Binding]]] = {}
        self._users: dict[tuple[str, tuple[str, ...]], dict[str, Access]] = {}
        self._filled: set[str] = set()
        self._policy = False
        self._ready = asyncio.Event()
        self._followers = [
            self._follow(kinds, resource, add, drop)
            for resource, add, drop in (
                (resources.ROLES, self._add_role, self._drop_role),
                (resources.CLUSTER_ROLES, self._add_role, self._drop_role),
                (resources.ROLE_BINDINGS, self._add_binding, self._drop_binding),
                (resources.CLUSTER_ROLE_BINDINGS, self._add_binding, self._drop_binding),
            )
        ]

    def _follow(
        self, kinds: Kinds, resource: resources.Resource, add: Callable[[Entry], None], drop: Callable[[tuple[str, str]], None]
    ) -> Follower:
        known: set[tuple[str, str]] = set()

        def replace(entries: Iterable[Entry]) -> None:
            for each in known:
                drop(each)
            known.clear()
            for entry in entries:
                known.add(_key(entry))
                add(entry)
            self._users.clear()
            self._filled.add(resource.plural)
            self._check_ready()

        def apply(event: Event) -> None:
            key = _key(event.entry)
            drop(key)
            known.discard(key)
            if event.type != "DELETED":
                known.add(key)
                add(event.entry)
            self._users.clear()

        return Follower(kinds.store(resource).cache, replace, apply)

    async def run(self) -> None:
        """Follow the roles and bindings until cancelled."""
        await follow(self._followers)

    def policy_is_there(self) -> None:
        """The bootstrap policy has been written."""
        self._policy = True
        self._check_ready()

    def _check_ready(self) -> None:
        if self._policy and len(self._filled) == len(self._followers):
            self._ready.set()

    # What is known

    def _add_role(self, entry: Entry) -> None:
        self._roles[_key(entry)] = entry

    def _drop_role(self, key: tuple[str, str]) -> None:
        self._roles.pop(key, None)
        self._rules.pop(key, None)

    def _add_binding(self, entry: Entry) -> None:
        found = parse_binding(entry.object())
        self._bindings[_key(entry)] = found
        index = self._index.setdefault(found.namespace, {})
        for subject in found.subjects:
            index.setdefault(subject, {})[_key(entry)] = found

    def _drop_binding(self, key: tuple[str, str]) -> None:
        found = self._bindings.pop(key, None)
        if found is None:
            return
        index = self._index[found.namespace]
        for subject in found.subjects:
            holders = index.get(subject)
            if holders is not None:
                holders.pop(key, None)
                if not holders:
                    del index[subject]
        if not index:
            del self._index[found.namespace]

    def role_rules(self, namespace: str, name: str) -> list[Rule] | None:
        """The rules of a Role, or of a ClusterRole where `namespace` is empty; None where there is none."""
        key = (namespace, name)
        rules = self._rules.get(key)
        if rules is None:
            entry = self._roles.get(key)
            if entry is None:
                return None
            rules = self._rules[key] = entry.object().get("rules") or []
        return rules

    # Answers

    def access(self, user: User, namespace: str) -> Access:
        """What bindings in `namespace` (empty: cluster-wide) give to the user."""
        key = (user.name, user.groups)
        spaces = self._users.get(key)
        if spaces is None:
            if len(self._users) >= _MAX_USERS:
                self._users.clear()
            spaces = self._users[key] = {}
        found = spaces.get(namespace)
        if found is None:
            index = self._index.get(namespace)
            # Where nothing is bound nothing is kept: namespaces in requests may be made up.
            if not index:
                return _NOTHING
            found = spaces[namespace] = self._resolve(index, user)
        return found

    def _resolve(self, index: dict[tuple[str, str], dict[tuple[str, str], Binding]], user: User) -> Access:
        subjects = [("User", user.name), *(("Group", each) for each in user.groups)]
        held: dict[tuple[str, str], tuple[Binding, tuple[str, str]]] = {}
        for subject in subjects:
            for key, binding in index.get(subject, {}).items():
                held.setdefault(key, (binding, subject))
        rules: list[tuple[Rule, str]] = []
        missing: dict[str, None] = {}
        for key in sorted(held):
            binding, subject = held[key]
            found = self.role_rules(*binding.role)
            if found is None:
                kind = "role" if binding.role[0] else "clusterrole"
                missing[f'{kind}.rbac.authorization.k8s.io "{binding.role[1]}" not found'] = None
                continue
            reason = binding.reason(subject)
            rules += [(rule, reason) for rule in found]
        return Access(rules, list(missing)) if rules or missing else _NOTHING

    async def ready(self) -> None:
        """Until questions can be answered. Raises 503 where that takes too long: a refusal would say what nobody knows."""
        if not self._ready.is_set():
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._ready.wait()
            except TimeoutError:
                raise errors.service_unavailable("the roles and bindings are not known yet") from None

    async def authorize(self, attributes: Attributes) -> Decision:
        """See :class:`.authorizer.Authorizer`."""
        if not self._ready.is_set():
            if attributes.path in _HEALTH:
                return Decision(True)
            await self.ready()
        user, verb, group, resource, subresource, namespace, name, path, _, _ = attributes
        whole = self.access(user, _CLUSTER)
        if not resource:
            reason = whole.path(verb, path)
            return Decision(True, reason) if reason else _refused(whole.missing)
        reason = whole.resource(verb, group, resource, subresource, name)
        if reason:
            return Decision(True, reason)
        if not namespace:
            return _refused(whole.missing)
        own = self.access(user, namespace)
        reason = own.resource(verb, group, resource, subresource, name)
        return Decision(True, reason) if reason else _refused([*whole.missing, *own.missing])

    def rules_of(self, user: User, namespace: str) -> list[Rule]:
        """All rules that apply to the user in a namespace (empty: cluster-wide only)."""
        found = [rule for rule, _ in self.access(user, _CLUSTER).rules]
        return found + [rule for rule, _ in self.access(user, namespace).rules] if namespace else found

    async def rules(self, user: User, namespace: str) -> RuleList:
        """See :class:`.authorizer.Authorizer`."""
        await self.ready()
        missing = [*self.access(user, _CLUSTER).missing, *(self.access(user, namespace).missing if namespace else ())]
        every = self.rules_of(user, namespace)
        found = [_shown(rule) for rule in every if rule.get("resources")]
        paths = [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]} for rule in every if rule.get("nonResourceURLs")
        ]
        return RuleList(found, paths, bool(missing), _aggregate(missing))


def _shown(rule: Rule) -> dict[str, Any]:
    return {key: rule[key] for key in ("verbs", "apiGroups", "resources", "resourceNames") if rule.get(key)}


def _aggregate(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def _refused(missing: list[str]) -> Decision:
    return Decision(False, f"RBAC: {_aggregate(missing)}") if missing else Decision(False)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.namespace, entry.name


def parse_binding(obj: dict[str, Any]) -> Binding:
    """What matters of a RoleBinding or ClusterRoleBinding. A service account is its user."""
    metadata, reference = obj["metadata"], obj.get("roleRef") or {}
    namespace = metadata.get("namespace") or ""
    role_namespace = namespace if reference.get("kind") == "Role" else ""
    subjects = []
    for each in obj.get("subjects") or ():
        kind, name = each.get("kind"), each.get("name") or ""
        if kind == "ServiceAccount":
            subjects.append(("User", f"system:serviceaccount:{each.get('namespace') or namespace}:{name}"))
        elif kind in ("User", "Group"):
            subjects.append((kind, name))
    return Binding(namespace, metadata["name"], (role_namespace, reference.get("name") or ""), tuple(subjects))
