"""Who is calling, and may they: what services ask before they do something, while auth is enabled.

A client says who it is by a token in the call's metadata (``token``, or ``authorization``) or, with ``--client-cert-auth``, by the CN of its certificate.
Operations of the log carry the user's name and are checked where they are applied (:mod:`.guard`); reads and what one member does alone are checked here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from kubeling.etcdlite.auth import NOBODY, Who
from kubeling.etcdlite.errors import INVALID_AUTH_TOKEN, EtcdError
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.ops import Attributed, Kind, attributed
from kubeling.etcdlite.rpc import Context, Method, Service, header
from kubeling.etcdlite.rpc import Kind as Style
from kubeling.etcdlite.web_tokens import WebTokens

_KNOWN = {
    "etcdserverpb.KV": ("Compact",),
    "etcdserverpb.Lease": ("LeaseGrant", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"),
    "etcdserverpb.Cluster": ("MemberList",),
}
_ADMIN = {
    "etcdserverpb.Cluster": ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"),
    "etcdserverpb.Maintenance": ("Alarm", "MoveLeader", "Downgrade"),
}
#: These answer with the error as it is called inside of etcd.
_ADMIN_PLAIN = {"etcdserverpb.Maintenance": ("Defragment", "Hash", "HashKV", "Snapshot")}


class Access:
    """The answers for one member."""

    def __init__(self, member: Member) -> None:
        config = member.config
        self._member = member
        self._state = member.state
        self.auth = member.state.auth
        self.guard = member.state.guard
        self._certificates = config.client_tls.client_auth
        self.web_tokens = WebTokens.from_flag(config.auth_token, member.clock.now)
        member.state.tokens.ttl = config.auth_token_ttl

    def who(self, context: Context) -> Who:
        """The user of a call; NOBODY where it does not say. Raises INVALID_AUTH_TOKEN, also where the token is so new that this member has not heard of it."""
        token = header(context, "token") or header(context, "authorization")
        if token:
            if self.web_tokens is not None:
                return self.web_tokens.check(token)
            user = self._state.tokens.use(token)
            if user is None:
                raise INVALID_AUTH_TOKEN
            return Who(user, self.auth.revision)
        if self._certificates and context.common_name:
            return Who(context.common_name, self.auth.revision)
        return NOBODY

    def known_already(self, context: Context) -> Who | None:
        """The same, and None for a token that this member does not know."""
        try:
            return self.who(context)
        except EtcdError:
            return None

    async def identify(self, context: Context) -> Who:
        """The same, but a token that this member does not know is looked for again when it has all that the others have. Raises EtcdError."""
        try:
            return self.who(context)
        except EtcdError as error:
            # What is wrong with a signed token is wrong everywhere.
            if error is not INVALID_AUTH_TOKEN or self.web_tokens is not None:
                raise
        await self._member.engine.barrier()
        return self.who(context)

    def submit(self, context: Context, kind: Kind, raw: bytes, request: Any) -> Awaitable[bytes | EtcdError]:
        """Have an operation done in the name of the caller."""
        if not self.auth.enabled:
            return self._member.proposer.submit(kind, raw, request)
        who = self.known_already(context)
        if who is None:
            return self._submit_later(context, kind, raw, request)
        return self._submit_as(who, kind, raw, request)

    async def _submit_later(self, context: Context, kind: Kind, raw: bytes, request: Any) -> bytes | EtcdError:
        return await self._submit_as(await self.identify(context), kind, raw, request)

    def _submit_as(self, who: Who, kind: Kind, raw: bytes, request: Any) -> Awaitable[bytes | EtcdError]:
        named = Attributed(who.user, who.revision, kind, request)
        return self._member.proposer.submit(Kind.ATTRIBUTED, attributed(who.user, who.revision, kind, raw), named)

    async def known(self, context: Context) -> None:
        """Raises unless the caller is a user."""
        if self.auth.enabled:
            self.auth.check_user(await self.identify(context))

    async def admin(self, context: Context) -> None:
        """Raises unless the caller has the role root."""
        if self.auth.enabled:
            self.auth.check_admin(await self.identify(context))

    async def _admin_plain(self, context: Context) -> None:
        try:
            await self.admin(context)
        except EtcdError as error:
            raise EtcdError("UNKNOWN", error.text.replace("etcdserver:", "auth:")) from None

    def guarded(self, services: Iterable[Service]) -> list[Service]:
        """The services with checks before those methods that are for users, or for root, only."""
        checked = []
        for service in services:
            methods = dict(service.methods)
            for table, check in ((_KNOWN, self.known), (_ADMIN, self.admin), (_ADMIN_PLAIN, self._admin_plain)):
                for name in table.get(service.name, ()):
                    if name in methods:
                        methods[name] = _checked(methods[name], check)
            checked.append(Service(service.name, methods))
        return checked


def _checked(method: Method, check: Callable[[Context], Awaitable[None]]) -> Method:
    if method.kind in (Style.UNARY, Style.DIRECT):

        async def call(raw: bytes, context: Context) -> Any:
            await check(context)
            result = method.call(raw, context)
            return result if isinstance(result, bytes) else await result

        return Method(Style.UNARY, call)

    async def stream(raw: bytes | AsyncIterator[bytes], context: Context) -> None:
        await check(context)
        work = method.call(raw, context)
        if not hasattr(work, "__aiter__"):
            await work
            return
        try:
            async for message in work:
                await context.write(message)
        finally:
            await work.aclose()

    return Method(method.kind, stream)
