"""Who is selected by what, kept up change by change.

The cost of a change is one look at each selection in use, and where a policy changes one at each pod of this node, however many pods and policies there are;
the selections in use are those of the policies that concern pods of this node. Their members are frozen sets that are only made anew when they change, so that comparing states is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from kubeling.kubeproxy.policy.model import Pod, Policy, Scope

Named = tuple[str, str]


class Selection:
    """The pods of a scope, as they are now."""

    def __init__(self, scope: Scope, namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self.scope = scope
        self._members: dict[str, Pod] = {}
        self.namespaces_changed(namespaces)

    def namespaces_changed(self, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether other namespaces belong to it now; its pods have to be looked at again then."""
        chosen = self.scope.namespaces
        found = (
            frozenset([self.scope.namespace])
            if chosen is None
            else frozenset(name for name, labels in namespaces.items() if chosen.matches(labels))
        )
        before, self._namespaces = getattr(self, "_namespaces", None), found
        return before != found

    def selects(self, pod: Pod) -> bool:
        return pod.namespace in self._namespaces and self.scope.pods.matches(pod.labels)

    def refill(self, pods: Iterable[tuple[str, Pod]]) -> None:
        self._members = {key: pod for key, pod in pods if self.selects(pod)}
        self._forget()

    def note(self, key: str, pod: Pod | None) -> None:
        """One pod is new, has changed or is gone."""
        before = self._members.get(key)
        if pod is not None and self.selects(pod):
            self._members[key] = pod
        elif before is not None:
            del self._members[key]
        if before is not None or key in self._members:
            self._forget()

    def _forget(self) -> None:
        for name in ("addresses", "_named"):
            self.__dict__.pop(name, None)

    @cached_property
    def addresses(self) -> frozenset[str]:
        """Of all its pods, of both families."""
        return frozenset(ip for pod in self._members.values() for ip in pod.ips)

    @cached_property
    def _named(self) -> dict[Named, frozenset[tuple[str, int]]]:
        found: dict[Named, set[tuple[str, int]]] = {}
        for pod in self._members.values():
            for port, number in pod.ports.items():
                found.setdefault(port, set()).update((ip, number) for ip in pod.ips)
        return {port: frozenset(places) for port, places in found.items()}

    def named(self, port: Named) -> frozenset[tuple[str, int]]:
        """Address and number of a port that has a name, of all pods that have it."""
        return self._named.get(port, frozenset())


class Index:
    """All pods, namespaces and policies; `node` is this node's name."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.pods: dict[str, Pod] = {}
        self.local: dict[str, Pod] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self._policies: dict[str, dict[str, Policy]] = {}
        #: Pod of this node → the policies that select it, by name.
        self._chosen: dict[str, dict[str, Policy]] = {}
        self._selections: dict[Scope, Selection] = {}

    @property
    def any_policy(self) -> bool:
        return bool(self._policies)

    def set_pod(self, key: str, pod: Pod | None) -> bool:
        """Whether this changes anything."""
        before = self.pods.get(key)
        if before == pod:
            return False
        if pod is None:
            del self.pods[key]
        else:
            self.pods[key] = pod
        if pod is not None and pod.node == self.node:
            if key not in self.local or before is None or before.labels != pod.labels:
                self._chosen[key] = self._choose(pod)
            self.local[key] = pod
        else:
            self.local.pop(key, None)
            self._chosen.pop(key, None)
        for selection in self._selections.values():
            selection.note(key, pod)
        return True

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Whether this changes anything."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            del self.namespaces[name]
        else:
            self.namespaces[name] = labels
        for selection in self._selections.values():
            if selection.scope.namespaces is not None and selection.namespaces_changed(self.namespaces):
                selection.refill(self.pods.items())
        return True

    def set_policy(self, namespace: str, name: str, policy: Policy | None) -> bool:
        """Whether this changes anything."""
        there = self._policies.get(namespace, {})
        if there.get(name) == policy:
            return False
        if policy is not None:
            self._policies.setdefault(namespace, {})[name] = policy
        else:
            del there[name]
            if not there:
                del self._policies[namespace]
        for key, chosen in self._chosen.items():
            pod = self.local[key]
            if pod.namespace != namespace:
                continue
            if policy is not None and policy.subject.pods.matches(pod.labels):
                chosen[name] = policy
            else:
                chosen.pop(name, None)
        return True

    def _choose(self, pod: Pod) -> dict[str, Policy]:
        there = self._policies.get(pod.namespace, {})
        return {name: each for name, each in there.items() if each.subject.pods.matches(pod.labels)}

    def policies_for(self, key: str) -> list[Policy]:
        """Those that select a pod of this node, by name."""
        return [each for _, each in sorted(self._chosen[key].items())]

    def selection(self, scope: Scope) -> Selection:
        found = self._selections.get(scope)
        if found is None:
            found = self._selections[scope] = Selection(scope, self.namespaces)
            found.refill(self.pods.items())
        return found

    def keep_only(self, scopes: Iterable[Scope]) -> None:
        """Let go of selections that nothing uses any more."""
        used = set(scopes)
        for scope in [each for each in self._selections if each not in used]:
            del self._selections[scope]
