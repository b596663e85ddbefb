"""MutatingAdmissionWebhook: one after the other, each sees what the ones before it have made of the object."""

from __future__ import annotations

from typing import Any

import orjson

from kubeling.api import errors
from kubeling.api.admission import review
from kubeling.api.decode import decode
from kubeling.api.errors import ApiError
from kubeling.api.meta import copy_json
from kubeling.api.patch.json_patch import apply_json_patch
from kubeling.api.resources import MUTATING_WEBHOOK_CONFIGURATIONS
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.admission.webhooks.call import CallError, Invocation, Webhooks, error_of
from kubeling.apiserver.admission.webhooks.hooks import Hook, Hooks
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.log import get_logger

log = get_logger("admission")
_SUFFIX = ".webhook.admission.k8s.io/round_{}_index_{}"


class MutatingAdmissionWebhook(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, webhooks: Webhooks) -> None:
        self._kinds = kinds
        self._hooks = Hooks(kinds, MUTATING_WEBHOOK_CONFIGURATIONS)
        self._webhooks = webhooks

    async def admit(self, attributes: Attributes) -> None:
        hooks = await self._hooks.current()
        if not hooks:
            return
        state = attributes.reinvocation
        if state.again and state.left != attributes.obj:
            # A plug-in that ran again has changed the object once more.
            state.due |= state.willing
        try:
            for at, hook in enumerate(hooks):
                if state.again and hook.uid not in state.due:
                    continue
                await self._one(hook, at, attributes)
        finally:
            if not state.again:
                state.left = copy_json(attributes.obj) if attributes.obj is not None else None

    async def _one(self, hook: Hook, at: int, attributes: Attributes) -> None:
        invocation = await self._webhooks.applies(hook, attributes)
        if invocation is None:
            return
        state = attributes.reinvocation
        state.due.discard(hook.uid)
        changed = False
        try:
            changed = await self._ask(invocation, at, attributes)
        except CallError as error:
            if not hook.ignores_failure:
                raise error_of(hook, error) from error
            log.warning("a webhook could not be called, and is passed over", webhook=hook.name, error=str(error))
            key = "failed-open.mutation" + _SUFFIX.format(int(state.again), at)
            attributes.notes.annotate(key, hook.name)
        if changed:
            state.wanted = True
            state.due |= state.willing
        if hook.spec.get("reinvocationPolicy") == "IfNeeded":
            state.willing.add(hook.uid)

    async def _ask(self, invocation: Invocation, at: int, attributes: Attributes) -> bool:
        """Call, and change the object as the answer says. Whether that has changed anything."""
        hook = invocation.hook
        verdict = await self._webhooks.call(invocation, attributes, mutating=True)
        if not verdict.allowed:
            raise review.denial(hook.name, verdict.status)
        before = invocation.view.obj
        if not verdict.patch or before is None:
            changed = False
        else:
            after = self._patched(invocation, before, verdict.patch, attributes)
            changed = after != before
            if changed:
                await self._take(invocation, after, attributes)
        note = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        suffix = _SUFFIX.format(int(attributes.reinvocation.again), at)
        attributes.notes.annotate("mutation" + suffix, orjson.dumps(note).decode())
        if changed:
            shown = {"configuration": hook.configuration, "webhook": hook.name, "patch": verdict.patch, "patchType": "JSONPatch"}
            attributes.notes.annotate("patch" + suffix, orjson.dumps(shown).decode())
        return changed

    def _patched(
        self, invocation: Invocation, before: dict[str, Any], patch: list[dict[str, Any]], attributes: Attributes
    ) -> dict[str, Any]:
        try:
            after = apply_json_patch(before, patch)
            if not isinstance(after, dict):
                raise errors.bad_request("the patched object is no object")
            group, version, kind = invocation.view.kind
            served = self._kinds.find(*invocation.version)
            if attributes.body is None and served is not None and not served.is_builtin:
                return after
            after, problems = decode(after, f"{group}/{version}" if group else version, kind)
        except ApiError as error:
            raise errors.internal(str(error)) from error
        for problem in problems:
            log.info("a webhook set what its kind does not have", webhook=invocation.hook.name, problem=problem)
        return after

    async def _take(self, invocation: Invocation, after: dict[str, Any], attributes: Attributes) -> None:
        """Put the patched object in the place of the present one: what makes it the object that it is stays."""
        obj = attributes.obj
        assert obj is not None
        new = await invocation.view.replaced(after)
        if "metadata" not in obj:
            obj.clear()
            obj.update(new)
            return
        metadata, kept = new.setdefault("metadata", {}), obj["metadata"]
        for field in ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp"):
            if field in kept:
                metadata[field] = kept[field]
            else:
                metadata.pop(field, None)
        resource = attributes.resource
        served = self._kinds.find(resource.group, resource.version, resource.plural)
        if served is not None and attributes.body is None:
            new["apiVersion"], new["kind"] = obj["apiVersion"], obj["kind"]
            served.rules.default(new)
        obj.clear()
        obj.update(new)
