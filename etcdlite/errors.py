"""The errors of the etcd v3 API: clients match on these very codes and texts.

A plain exception with no gRPC in it, so that the pure core can raise it; the services turn `code` (the name of a gRPC status) into a status.
"""

from __future__ import annotations


class EtcdError(Exception):
    """An answer that is an error; one instance a kind, so raising costs nothing and identity can be compared."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    def __repr__(self) -> str:
        return f"{self.code}: {self.text}"


EMPTY_KEY = EtcdError("INVALID_ARGUMENT", "etcdserver: key is not provided")
KEY_NOT_FOUND = EtcdError("INVALID_ARGUMENT", "etcdserver: key not found")
VALUE_PROVIDED = EtcdError("INVALID_ARGUMENT", "etcdserver: value is provided")
LEASE_PROVIDED = EtcdError("INVALID_ARGUMENT", "etcdserver: lease is provided")
TOO_MANY_OPS = EtcdError("INVALID_ARGUMENT", "etcdserver: too many operations in txn request")
DUPLICATE_KEY = EtcdError("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request")
INVALID_SORT = EtcdError("INVALID_ARGUMENT", "etcdserver: invalid sort option")
COMPACTED = EtcdError("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = EtcdError("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = EtcdError("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND = EtcdError("NOT_FOUND", "etcdserver: requested lease not found")
LEASE_EXISTS = EtcdError("FAILED_PRECONDITION", "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = EtcdError("OUT_OF_RANGE", "etcdserver: too large lease TTL")
REQUEST_TOO_LARGE = EtcdError("INVALID_ARGUMENT", "etcdserver: request is too large")
TOO_MANY_REQUESTS = EtcdError("RESOURCE_EXHAUSTED", "etcdserver: too many requests")
MEMBER_NOT_FOUND = EtcdError("NOT_FOUND", "etcdserver: member not found")
MEMBER_EXISTS = EtcdError("FAILED_PRECONDITION", "etcdserver: member ID already exist")
PEER_URL_EXISTS = EtcdError("FAILED_PRECONDITION", "etcdserver: Peer URLs already exists")
TOO_FEW_STARTED = EtcdError("FAILED_PRECONDITION", "etcdserver: re-configuration failed due to not enough started members")
BAD_MEMBER_URLS = EtcdError("INVALID_ARGUMENT", "etcdserver: given member URLs are invalid")
MEMBER_NOT_LEARNER = EtcdError("FAILED_PRECONDITION", "etcdserver: can only promote a learner member")
LEARNER_NOT_READY = EtcdError("FAILED_PRECONDITION", "etcdserver: can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS = EtcdError("FAILED_PRECONDITION", "etcdserver: too many learner members in cluster")
NOT_FOR_LEARNER = EtcdError("UNAVAILABLE", "etcdserver: rpc not supported for learner")
UNHEALTHY = EtcdError("UNAVAILABLE", "etcdserver: unhealthy cluster")
NOT_LEADER = EtcdError("FAILED_PRECONDITION", "etcdserver: not leader")
BAD_LEADER_TRANSFEREE = EtcdError("FAILED_PRECONDITION", "etcdserver: bad leader transferee")
LEADER_TRANSFER_TIMEOUT = EtcdError("UNAVAILABLE", "etcdserver: request timed out, leader transfer took too long")
NO_LEADER = EtcdError("UNAVAILABLE", "etcdserver: no leader")
LEADER_CHANGED = EtcdError("UNAVAILABLE", "etcdserver: leader changed")
TIMEOUT = EtcdError("UNAVAILABLE", "etcdserver: request timed out")
STOPPED = EtcdError("UNAVAILABLE", "etcdserver: server stopped")
CORRUPT = EtcdError("DATA_LOSS", "etcdserver: corrupt cluster")

ROOT_USER_MISSING = EtcdError("FAILED_PRECONDITION", "etcdserver: root user does not exist")
ROOT_ROLE_MISSING = EtcdError("FAILED_PRECONDITION", "etcdserver: root user does not have root role")
USER_EXISTS = EtcdError("FAILED_PRECONDITION", "etcdserver: user name already exists")
USER_EMPTY = EtcdError("INVALID_ARGUMENT", "etcdserver: user name is empty")
USER_NOT_FOUND = EtcdError("FAILED_PRECONDITION", "etcdserver: user name not found")
ROLE_EXISTS = EtcdError("FAILED_PRECONDITION", "etcdserver: role name already exists")
ROLE_NOT_FOUND = EtcdError("FAILED_PRECONDITION", "etcdserver: role name not found")
ROLE_EMPTY = EtcdError("INVALID_ARGUMENT", "etcdserver: role name is empty")
AUTH_FAILED = EtcdError("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password")
#: The code and the words that etcd lets through here.
NO_PASSWORD_USER = EtcdError("UNKNOWN", "auth: authentication failed, password was given for no password user")
PASSWORD_TOO_LONG = EtcdError("UNKNOWN", "bcrypt: password length exceeds 72 bytes")
PERMISSION_NOT_GIVEN = EtcdError("INVALID_ARGUMENT", "etcdserver: permission not given")
PERMISSION_DENIED = EtcdError("PERMISSION_DENIED", "etcdserver: permission denied")
ROLE_NOT_GRANTED = EtcdError("FAILED_PRECONDITION", "etcdserver: role is not granted to the user")
PERMISSION_NOT_GRANTED = EtcdError("FAILED_PRECONDITION", "etcdserver: permission is not granted to the role")
AUTH_NOT_ENABLED = EtcdError("FAILED_PRECONDITION", "etcdserver: authentication is not enabled")
INVALID_AUTH_TOKEN = EtcdError("UNAUTHENTICATED", "etcdserver: invalid auth token")
INVALID_AUTH_MANAGEMENT = EtcdError("INVALID_ARGUMENT", "etcdserver: invalid auth management")
AUTH_OLD_REVISION = EtcdError("INVALID_ARGUMENT", "etcdserver: revision of auth store is old")
