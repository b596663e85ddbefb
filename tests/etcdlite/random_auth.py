"""Random administration of users and roles, and requests in their names, from a seed.

Left out are the points in which etcdlite is stricter than etcd 3.4 on purpose: nested transactions, and what a put in a transaction asks for beside the put.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubeling.proto import auth_pb2
from kubeling.proto import etcd_pb2 as pb

USERS = ["root", "ann", "bob", ""]
ROLES = ["root", "reader", "writer", "both", ""]
_RANGES = [(b"a", b""), (b"a/", b"a0"), (b"b", b"d"), (b"c", b"\x00"), (b"d", b"e"), (b"\x00", b"\x00"), (b"b/", b"")]
_KEYS = [b"a", b"a/1", b"b", b"c", b"d", b"zz"]
_ENDS = [b"", b"", b"", b"d", b"e", b"\x00", b"a0"]


@dataclass(frozen=True)
class Step:
    """A call in the name of `user` (None: nobody, ``"?"``: with a token that nobody has)."""

    service: str
    method: str
    request: Any
    user: str | None


class AuthRequests:
    """An endless sequence of steps."""

    def __init__(self, seed: int) -> None:
        self._rand = random.Random(seed)

    def __iter__(self) -> Iterator[Step]:
        # So that auth can be enabled at all.
        yield Step("Auth", "UserAdd", pb.AuthUserAddRequest(name="root", password="1"), None)
        yield Step("Auth", "UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root"), None)
        while True:
            yield self._next()

    def _next(self) -> Step:
        rand = self._rand
        # Changes are mostly root's, or they would all be refused while auth is on.
        if rand.random() < 0.45:
            method, request = self._change()
            # Whoever asks for a token shows none: etcd 3.4 would look at it.
            user = None if method == "Authenticate" else rand.choice(["root"] * 8 + ["ann", "?", None])
            return Step("Auth", method, request, user)
        return Step(*self._use(), rand.choice(["root", "ann", "ann", "bob", "bob", "?", None]))

    def _change(self) -> tuple[str, Any]:
        rand = self._rand
        user, role = rand.choice(USERS), rand.choice(ROLES)
        key, end = rand.choice(_RANGES)
        kind = rand.choices(range(12), [5, 1, 2, 6, 2, 4, 1, 8, 2, 5, 1, 12])[0]
        if kind == 0:
            options = auth_pb2.UserAddOptions(no_password=True) if rand.random() < 0.2 else None
            return "UserAdd", pb.AuthUserAddRequest(name=user, password=str(rand.randrange(2)), options=options)
        if kind == 1:
            return "UserDelete", pb.AuthUserDeleteRequest(name=user)
        if kind == 2:
            return "UserChangePassword", pb.AuthUserChangePasswordRequest(name=user, password=str(rand.randrange(2)))
        if kind == 3:
            return "UserGrantRole", pb.AuthUserGrantRoleRequest(user=user, role=role)
        if kind == 4:
            return "UserRevokeRole", pb.AuthUserRevokeRoleRequest(name=user, role=role)
        if kind == 5:
            return "RoleAdd", pb.AuthRoleAddRequest(name=role)
        if kind == 6:
            return "RoleDelete", pb.AuthRoleDeleteRequest(role=role)
        if kind == 7:
            perm = auth_pb2.Permission(permType=rand.randrange(3), key=key, range_end=end)  # type: ignore[arg-type]
            return "RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name=role, perm=perm)
        if kind == 8:
            return "RoleRevokePermission", pb.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)
        if kind == 9:
            return "AuthEnable", pb.AuthEnableRequest()
        if kind == 10:
            return "AuthDisable", pb.AuthDisableRequest()
        return "Authenticate", pb.AuthenticateRequest(name=user, password=str(rand.randrange(2)))

    def _use(self) -> tuple[str, str, Any]:
        rand = self._rand
        key, end, prev = rand.choice(_KEYS), rand.choice(_ENDS), rand.random() < 0.3
        if end not in (b"", b"\x00") and end <= key:
            end = b""
        kind = rand.randrange(10)
        if kind < 2:
            return "KV", "Range", pb.RangeRequest(key=key, range_end=end, serializable=prev)
        if kind < 4:
            return "KV", "Put", pb.PutRequest(key=key, prev_kv=prev)
        if kind == 4:
            return "KV", "DeleteRange", pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev)
        if kind == 5:
            txn = pb.TxnRequest(compare=[pb.Compare(key=key, range_end=end, version=1)])
            txn.success.add(request_put=pb.PutRequest(key=rand.choice(_KEYS)))
            txn.failure.add(request_range=pb.RangeRequest(key=rand.choice(_KEYS)))
            return "KV", "Txn", txn
        if kind == 6:
            return "Auth", "UserGet", pb.AuthUserGetRequest(name=rand.choice(USERS))
        if kind == 7:
            return "Auth", "RoleGet", pb.AuthRoleGetRequest(role=rand.choice(ROLES))
        if kind == 8:
            return "Auth", rand.choice(["UserList", "RoleList"]), pb.AuthUserListRequest()
        return "Maintenance", "Hash", pb.HashRequest()
