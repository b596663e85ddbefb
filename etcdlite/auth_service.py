"""etcdserverpb.Auth: users, roles, and tokens for passwords. Changes go through the log; passwords are hashed, in threads, before they get there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubeling.etcdlite.access import Access
from kubeling.etcdlite.auth import Who
from kubeling.etcdlite.errors import (
    AUTH_FAILED,
    AUTH_OLD_REVISION,
    PASSWORD_TOO_LONG,
    TOO_MANY_REQUESTS,
    EtcdError,
)
from kubeling.etcdlite.member import Member
from kubeling.etcdlite.ops import Kind
from kubeling.etcdlite.rpc import Context, Method, Service, answer, service, unary
from kubeling.etcdlite.tokens import digest
from kubeling.proto import etcd_pb2 as pb

#: Hashing is meant to be slow: so many at once, and so many waiting for their turn.
_HASHERS = 2
_MAX_HASHING = 200
#: What bcrypt looks at.
_MAX_PASSWORD = 72
_TRIES = 5


def handler(member: Member, access: Access) -> Service:
    """The Auth service of `member`."""
    auth = _Auth(member, access)
    changes: dict[str, tuple[Kind, Any]] = {
        "AuthEnable": (Kind.AUTH_ENABLE, pb.AuthEnableRequest),
        "AuthDisable": (Kind.AUTH_DISABLE, pb.AuthDisableRequest),
        "UserDelete": (Kind.USER_DELETE, pb.AuthUserDeleteRequest),
        "UserGrantRole": (Kind.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest),
        "UserRevokeRole": (Kind.USER_REVOKE_ROLE, pb.AuthUserRevokeRoleRequest),
        "RoleAdd": (Kind.ROLE_ADD, pb.AuthRoleAddRequest),
        "RoleDelete": (Kind.ROLE_DELETE, pb.AuthRoleDeleteRequest),
        "RoleGrantPermission": (Kind.ROLE_GRANT_PERMISSION, pb.AuthRoleGrantPermissionRequest),
        "RoleRevokePermission": (Kind.ROLE_REVOKE_PERMISSION, pb.AuthRoleRevokePermissionRequest),
    }
    methods = {name: auth.change(kind, message) for name, (kind, message) in changes.items()}
    methods |= {
        "AuthStatus": unary(auth.status),
        "Authenticate": unary(auth.authenticate),
        "UserAdd": unary(auth.user_add),
        "UserChangePassword": unary(auth.user_change_password),
        "UserGet": unary(auth.user_get),
        "UserList": unary(auth.user_list),
        "RoleGet": unary(auth.role_get),
        "RoleList": unary(auth.role_list),
    }
    return service("etcdserverpb.Auth", methods)


class _Auth:
    def __init__(self, member: Member, access: Access) -> None:
        self._member = member
        self._access = access
        self._store = member.state.auth
        self._threads = ThreadPoolExecutor(_HASHERS, "bcrypt")
        self._hashing = 0

    def _header(self) -> bytes:
        return self._member.header(self._member.state.store.revision)

    def change(self, kind: Kind, message: Any) -> Method:
        """A method that is one operation of the log."""

        async def call(raw: bytes, context: Context) -> bytes:
            return answer(await self._access.submit(context, kind, raw, message.FromString(raw)))

        return unary(call)

    # Passwords.

    async def _hash(self, work: Callable[[], Any]) -> Any:
        if self._hashing >= _MAX_HASHING:
            raise TOO_MANY_REQUESTS
        self._hashing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._hashing -= 1

    async def _hashed(self, password: str, context: Context) -> str:
        """What is kept of a password. Only for root, as it costs something."""
        await self._access.admin(context)
        given = password.encode()
        if len(given) > _MAX_PASSWORD:
            raise PASSWORD_TOO_LONG
        cost = self._member.config.bcrypt_cost

        def work() -> str:
            import bcrypt

            # Go's prefix, so that real etcd reads it from a backup.
            return bcrypt.hashpw(given, bcrypt.gensalt(cost, b"2a")).decode()

        return str(await self._hash(work))

    async def _check_password(self, name: str, password: str) -> None:
        """Raises unless that is the user's password."""
        given, cost = password.encode()[:_MAX_PASSWORD], self._member.config.bcrypt_cost
        try:
            kept = self._store.password_of(name)
        except EtcdError as error:
            if error is not AUTH_FAILED:
                raise
            kept = b""

        def work() -> bool:
            import bcrypt

            if not kept:
                # There is no such user: let that take as long as a wrong password does.
                bcrypt.hashpw(given, bcrypt.gensalt(cost))
                return False
            return bcrypt.checkpw(given, kept)

        if not await self._hash(work):
            raise AUTH_FAILED

    async def user_add(self, raw: bytes, context: Context) -> bytes:
        request = pb.AuthUserAddRequest.FromString(raw)
        password, request.password, request.hashedPassword = request.password, "", ""
        if not request.options.no_password:
            request.hashedPassword = await self._hashed(password, context)
        return answer(await self._access.submit(context, Kind.USER_ADD, request.SerializeToString(), request))

    async def user_change_password(self, raw: bytes, context: Context) -> bytes:
        request = pb.AuthUserChangePasswordRequest.FromString(raw)
        password, request.password = request.password, ""
        request.hashedPassword = await self._hashed(password, context)
        return answer(await self._access.submit(context, Kind.USER_CHANGE_PASSWORD, request.SerializeToString(), request))

    async def authenticate(self, raw: bytes, context: Context) -> bytes:
        request = pb.AuthenticateRequest.FromString(raw)
        await self._member.engine.barrier()
        for _ in range(_TRIES):
            revision = self._store.revision
            await self._check_password(request.name, request.password)
            head, token = await self._token(request.name)
            # Unless the user was changed meanwhile: then the password may be the old one.
            if self._store.unchanged(request.name, revision):
                return head + pb.AuthenticateResponse(token=token).SerializeToString()
        raise AUTH_OLD_REVISION

    async def _token(self, user: str) -> tuple[bytes, str]:
        web_tokens = self._access.web_tokens
        if web_tokens is not None:
            return self._header(), web_tokens.make(Who(user, self._store.revision))
        token = secrets.token_urlsafe(24)
        known = pb.AuthenticateRequest(name=user, password=digest(token))
        return answer(await self._member.proposer.submit(Kind.AUTHENTICATE, known.SerializeToString(), known)), token

    # Reading.

    async def _reader(self, context: Context) -> Who:
        await self._member.engine.barrier()
        return self._access.who(context) if self._store.enabled else Who("", 0)

    async def status(self, raw: bytes, context: Context) -> bytes:
        await self._member.engine.barrier()
        said = pb.AuthStatusResponse(enabled=self._store.enabled, authRevision=self._store.revision)
        return self._header() + said.SerializeToString()

    async def user_get(self, raw: bytes, context: Context) -> bytes:
        name, who = pb.AuthUserGetRequest.FromString(raw).name, await self._reader(context)
        if who.user != name:
            self._store.check_admin(who)
        return self._header() + pb.AuthUserGetResponse(roles=self._store.user_get(name)).SerializeToString()

    async def user_list(self, raw: bytes, context: Context) -> bytes:
        self._store.check_admin(await self._reader(context))
        return self._header() + pb.AuthUserListResponse(users=sorted(self._store.users)).SerializeToString()

    async def role_get(self, raw: bytes, context: Context) -> bytes:
        role, who = pb.AuthRoleGetRequest.FromString(raw).role, await self._reader(context)
        if not self._store.has_role(who.user, role):
            self._store.check_admin(who)
        return self._header() + pb.AuthRoleGetResponse(perm=self._store.role_get(role)).SerializeToString()

    async def role_list(self, raw: bytes, context: Context) -> bytes:
        self._store.check_admin(await self._reader(context))
        return self._header() + pb.AuthRoleListResponse(roles=sorted(self._store.roles)).SerializeToString()
