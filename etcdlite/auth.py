"""Users, roles and what they may do: a part of the replicated state. Pure; the same operations make the same users on every member.

A user has roles, a role has permissions to read or write ranges of keys; the role ``root`` may do everything and needs not even exist. While auth is
enabled the user ``root`` keeps that role, so nobody locks everybody out. Passwords come hashed.

Each change counts the **auth revision** up. Who somebody is was found out at some revision; that counts until the user gets another password, is made
anew, or auth is disabled. A request from before that is not done: it comes back as ``revision of auth store is old``. (etcd lets every change of any
user or role have that effect. What users may do is looked up when it is done, so it does not need that.)

Users and roles are kept as the ``authpb`` messages that real etcd has in its database.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kubeling.etcdlite.errors import (
    AUTH_FAILED,
    AUTH_NOT_ENABLED,
    AUTH_OLD_REVISION,
    INVALID_AUTH_MANAGEMENT,
    NO_PASSWORD_USER,
    PERMISSION_DENIED,
    PERMISSION_NOT_GIVEN,
    PERMISSION_NOT_GRANTED,
    ROLE_EMPTY,
    ROLE_EXISTS,
    ROLE_NOT_FOUND,
    ROLE_NOT_GRANTED,
    ROOT_ROLE_MISSING,
    ROOT_USER_MISSING,
    USER_EMPTY,
    USER_EXISTS,
    USER_NOT_FOUND,
)
from kubeling.etcdlite.permissions import Ranges
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto.auth_pb2 import Permission, Role, User

ROOT = "root"


class Who(NamedTuple):
    """Whose request it is: the user, and the auth revision at which that was found out. Revision 0: nobody said."""

    user: str
    revision: int


NOBODY = Who("", 0)


class AuthStore:
    """All users and roles. The methods named like the service's calls raise EtcdError, and then nothing is changed."""

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, User] = {}
        self.roles: dict[str, Role] = {}
        #: At which revision each user's password was set.
        self._since: dict[str, int] = {}
        #: What a user may read and write, made when it is first asked for and forgotten with the next change.
        self._ranges: dict[str, tuple[Ranges, Ranges]] = {}

    # Who may what.

    def check(self, who: Who, key: bytes, range_end: bytes, *, write: bool) -> None:
        """Raises unless the user may read, or write, the whole range."""
        if self.enabled:
            user = self._caller(who)
            if ROOT not in user.roles and not self._ranges_of(user)[write].cover(key, range_end):
                raise PERMISSION_DENIED

    def check_user(self, who: Who) -> None:
        """Raises unless it is a user at all."""
        if self.enabled:
            self._caller(who)

    def check_admin(self, who: Who) -> None:
        """Raises unless the user has the role root."""
        if self.enabled and ROOT not in self._caller(who).roles:
            raise PERMISSION_DENIED

    def unchanged(self, name: str, revision: int) -> bool:
        """Whether what was found out about the user at `revision` still counts."""
        return name in self.users and self._since[name] <= revision

    def _caller(self, who: Who) -> User:
        if not who.revision:
            raise USER_EMPTY
        user = self.users.get(who.user)
        if user is None:
            raise PERMISSION_DENIED
        if not self.unchanged(who.user, who.revision):
            raise AUTH_OLD_REVISION
        return user

    def has_role(self, name: str, role: str) -> bool:
        """Whether there is such a user and it has that role."""
        return name in self.users and role in self.users[name].roles

    def password_of(self, name: str) -> bytes:
        """The hash of a user's password. Raises where the user cannot give one."""
        if not self.enabled:
            raise AUTH_NOT_ENABLED
        user = self.users.get(name)
        if user is None:
            raise AUTH_FAILED
        if user.options.no_password:
            raise NO_PASSWORD_USER
        return user.password

    def _ranges_of(self, user: User) -> tuple[Ranges, Ranges]:
        name = user.name.decode()
        ranges = self._ranges.get(name)
        if ranges is None:
            given = [one for role in user.roles if role in self.roles for one in self.roles[role].keyPermission]
            read = Ranges(one for one in given if one.permType != Permission.WRITE)
            write = Ranges(one for one in given if one.permType != Permission.READ)
            ranges = self._ranges[name] = (read, write)
        return ranges

    def _changed(self) -> None:
        self._ranges.clear()
        self.revision += 1

    # On and off.

    def enable(self) -> None:
        """From now on everybody has to say who they are. Raises where root could not do anything then."""
        if self.enabled:
            return
        root = self.users.get(ROOT)
        if root is None:
            raise ROOT_USER_MISSING
        if ROOT not in root.roles:
            raise ROOT_ROLE_MISSING
        self.enabled = True

    def disable(self) -> None:
        """Everybody may do everything again."""
        if self.enabled:
            self.enabled = False
            self._changed()
            self._since = dict.fromkeys(self.users, self.revision)

    # Users.

    def user_add(self, request: pb.AuthUserAddRequest) -> None:
        if not request.name:
            raise USER_EMPTY
        if request.name in self.users:
            raise USER_EXISTS
        user = User(name=request.name.encode(), password=request.hashedPassword.encode(), options=request.options)
        self.users[request.name] = user
        self._changed()
        self._since[request.name] = self.revision

    def user_delete(self, request: pb.AuthUserDeleteRequest) -> None:
        if self.enabled and request.name == ROOT:
            raise INVALID_AUTH_MANAGEMENT
        self._user(request.name)
        del self.users[request.name], self._since[request.name]
        self._changed()

    def user_change_password(self, request: pb.AuthUserChangePasswordRequest) -> None:
        self._user(request.name).password = request.hashedPassword.encode()
        self._changed()
        self._since[request.name] = self.revision

    def user_grant_role(self, request: pb.AuthUserGrantRoleRequest) -> None:
        user = self._user(request.user)
        if request.role != ROOT:
            self._role(request.role)
        if request.role not in user.roles:
            _set_roles(user, [*user.roles, request.role])
            self._changed()

    def user_revoke_role(self, request: pb.AuthUserRevokeRoleRequest) -> None:
        if self.enabled and request.name == request.role == ROOT:
            raise INVALID_AUTH_MANAGEMENT
        user = self._user(request.name)
        if request.role not in user.roles:
            raise ROLE_NOT_GRANTED
        _set_roles(user, [role for role in user.roles if role != request.role])
        self._changed()

    def user_get(self, name: str) -> list[str]:
        """The user's roles."""
        return list(self._user(name).roles)

    def _user(self, name: str) -> User:
        user = self.users.get(name)
        if user is None:
            raise USER_NOT_FOUND
        return user

    # Roles.

    def role_add(self, request: pb.AuthRoleAddRequest) -> None:
        if not request.name:
            raise ROLE_EMPTY
        if request.name in self.roles:
            raise ROLE_EXISTS
        self.roles[request.name] = Role(name=request.name.encode())
        self._changed()

    def role_delete(self, request: pb.AuthRoleDeleteRequest) -> None:
        if self.enabled and request.role == ROOT:
            raise INVALID_AUTH_MANAGEMENT
        self._role(request.role)
        del self.roles[request.role]
        for user in self.users.values():
            if request.role in user.roles:
                _set_roles(user, [role for role in user.roles if role != request.role])
        self._changed()

    def role_grant_permission(self, request: pb.AuthRoleGrantPermissionRequest) -> None:
        if not request.HasField("perm"):
            raise PERMISSION_NOT_GIVEN
        role, perm = self._role(request.name), request.perm
        same = next((one for one in role.keyPermission if (one.key, one.range_end) == (perm.key, perm.range_end)), None)
        if same is not None:
            same.permType = perm.permType
        else:
            _set_permissions(role, sorted([*role.keyPermission, perm], key=lambda one: one.key))
        self._changed()

    def role_revoke_permission(self, request: pb.AuthRoleRevokePermissionRequest) -> None:
        role = self._role(request.role)
        kept = [one for one in role.keyPermission if (one.key, one.range_end) != (request.key, request.range_end)]
        if len(kept) == len(role.keyPermission):
            raise PERMISSION_NOT_GRANTED
        _set_permissions(role, kept)
        self._changed()

    def role_get(self, name: str) -> list[Permission]:
        """The role's permissions."""
        return list(self._role(name).keyPermission)

    def _role(self, name: str) -> Role:
        role = self.roles.get(name)
        if role is None:
            raise ROLE_NOT_FOUND
        return role

    # In snapshots.

    def describe(self) -> dict[str, Any]:
        """All of it as JSON; the messages in hex."""
        return {
            "enabled": self.enabled,
            "revision": self.revision,
            "since": dict(self._since),
            "users": [user.SerializeToString().hex() for user in self.users.values()],
            "roles": [role.SerializeToString().hex() for role in self.roles.values()],
        }

    def restore(self, said: dict[str, Any]) -> None:
        """Become what :meth:`describe` said; of nothing, an empty store."""
        self.enabled, self.revision = said.get("enabled", False), said.get("revision", 1)
        users = [User.FromString(bytes.fromhex(one)) for one in said.get("users", ())]
        roles = [Role.FromString(bytes.fromhex(one)) for one in said.get("roles", ())]
        self.users = {user.name.decode(): user for user in users}
        self.roles = {role.name.decode(): role for role in roles}
        # A backup does not say it.
        self._since = dict.fromkeys(self.users, self.revision) | said.get("since", {})
        self._ranges.clear()


def _set_roles(user: User, roles: list[str]) -> None:
    del user.roles[:]
    user.roles.extend(sorted(roles))


def _set_permissions(role: Role, permissions: list[Permission]) -> None:
    # Copies, since what is deleted here may be what is put back.
    kept = [Permission.FromString(one.SerializeToString()) for one in permissions]
    del role.keyPermission[:]
    role.keyPermission.extend(kept)
