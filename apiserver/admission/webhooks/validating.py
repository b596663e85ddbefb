"""ValidatingAdmissionWebhook: all at once; the first refusal, in the order of their names, is what the client hears."""

from __future__ import annotations

import asyncio

from kubeling.api.admission import review
from kubeling.api.errors import ApiError
from kubeling.api.resources import VALIDATING_WEBHOOK_CONFIGURATIONS
from kubeling.apiserver.admission.chain import Attributes, Plugin
from kubeling.apiserver.admission.webhooks.call import CallError, Invocation, Webhooks, error_of
from kubeling.apiserver.admission.webhooks.hooks import Hooks
from kubeling.apiserver.registry.kinds import Kinds
from kubeling.daemon.log import get_logger

log = get_logger("admission")


class ValidatingAdmissionWebhook(Plugin):
    """See the module."""

    def __init__(self, kinds: Kinds, webhooks: Webhooks) -> None:
        self._hooks = Hooks(kinds, VALIDATING_WEBHOOK_CONFIGURATIONS)
        self._webhooks = webhooks

    async def validate(self, attributes: Attributes) -> None:
        hooks = await self._hooks.current()
        if not hooks:
            return
        found = [(at, await self._webhooks.applies(hook, attributes)) for at, hook in enumerate(hooks)]
        asked = [(at, each) for at, each in found if each is not None]
        if not asked:
            return
        if len(asked) == 1:
            refusals = [await self._ask(*asked[0], attributes)]
        else:
            refusals = list(await asyncio.gather(*(self._ask(at, each, attributes) for at, each in asked)))
        first = next((each for each in refusals if each is not None), None)
        if first is not None:
            raise first

    async def _ask(self, at: int, invocation: Invocation, attributes: Attributes) -> ApiError | None:
        """The refusal, if it is one."""
        hook = invocation.hook
        try:
            verdict = await self._webhooks.call(invocation, attributes, mutating=False)
        except ApiError as error:
            return error
        except CallError as error:
            if not hook.ignores_failure:
                return error_of(hook, error)
            log.warning("a webhook could not be called, and is passed over", webhook=hook.name, error=str(error))
            attributes.notes.annotate(f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}", hook.name)
            return None
        return None if verdict.allowed else review.denial(hook.name, verdict.status)
