"""The replicated state machine: log entries in, answers and events out. No I/O; the same entries make the same state on every member.

Each operation gives one answer: the encoded response with its header, or the error that the client is to see (an error is a result too,
and the same everywhere). What was written since the last :meth:`State.take_events` is what watchers are to be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from kubeling.etcdlite import requests
from kubeling.etcdlite.auth import NOBODY, AuthStore, Who
from kubeling.etcdlite.errors import LEADER_CHANGED, NO_SPACE, EtcdError
from kubeling.etcdlite.evaluate import Evaluator
from kubeling.etcdlite.guard import Guard
from kubeling.etcdlite.lease import Lessor
from kubeling.etcdlite.mvcc import Record, Store
from kubeling.etcdlite.ops import Attributed, Expiry, Kind, decode_batch
from kubeling.etcdlite.snapshot import Meta
from kubeling.etcdlite.tokens import Tokens
from kubeling.etcdlite.wire import HeaderMaker
from kubeling.proto import etcd_pb2 as pb

Answer = bytes | EtcdError

#: More than any proposer has on its way at once, with what may be applied in another order.
SESSION_WINDOW = 32
MAX_SESSIONS = 64


class State:
    """Store, leases, alarms, users and roles of one member. `clock` gives monotonic seconds (used by the primary's leases only)."""

    def __init__(self, header: HeaderMaker, clock: Callable[[], float]) -> None:
        self.store = Store()
        self.leases = Lessor()
        self.alarms: set[tuple[int, int]] = set()
        #: The numbers of the batches last applied, for each session that proposed any.
        self.sessions: dict[int, deque[int]] = {}
        #: What members say of themselves: name and client URLs.
        self.published: dict[int, tuple[str, tuple[str, ...]]] = {}
        #: Of the entry that is being applied.
        self.term = 0
        self.header = header
        self.evaluator = Evaluator(self.store, self.leases)
        self.auth = AuthStore()
        self.tokens = Tokens(clock)
        self.guard = Guard(self.auth, self.leases)
        self._clock = clock
        self._events: list[Record] = []
        self._plain: dict[int, Callable[[Any], bytes]] = {
            Kind.PUT: self._put,
            Kind.DELETE_RANGE: self.evaluator.delete_range,
            Kind.TXN: self._txn,
            Kind.COMPACT: self._compact,
            Kind.LEASE_GRANT: self._grant,
            Kind.LEASE_REVOKE: self._revoke,
            Kind.ALARM: self._alarm,
            Kind.PUBLISH: self._publish,
            Kind.LEASE_EXPIRE: self._expire,
            Kind.ATTRIBUTED: self._attributed,
            Kind.AUTH_ENABLE: self._auth_enable,
            Kind.AUTH_DISABLE: self._auth_disable,
            Kind.AUTHENTICATE: self._authenticate,
            Kind.USER_ADD: _silent(self.auth.user_add),
            Kind.USER_DELETE: _silent(self._user_delete),
            Kind.USER_CHANGE_PASSWORD: _silent(self._user_change_password),
            Kind.USER_GRANT_ROLE: _silent(self.auth.user_grant_role),
            Kind.USER_REVOKE_ROLE: _silent(self.auth.user_revoke_role),
            Kind.ROLE_ADD: _silent(self.auth.role_add),
            Kind.ROLE_DELETE: _silent(self.auth.role_delete),
            Kind.ROLE_GRANT_PERMISSION: _silent(self.auth.role_grant_permission),
            Kind.ROLE_REVOKE_PERMISSION: _silent(self.auth.role_revoke_permission),
        }
        #: With checks where auth is enabled, without where it is not; so it costs nothing then.
        self._do = dict(self._plain)

    def first_time(self, session: int, number: int) -> bool:
        """Whether a batch is new; False where it is a second copy, proposed again while a leader was lost.

        Numbers rise within a session and few are on their way at once, so a window of recent ones tells; what is older than it is a late copy.
        """
        recent = self.sessions.get(session)
        if recent is None:
            recent = self.sessions[session] = deque(maxlen=SESSION_WINDOW)
            while len(self.sessions) > MAX_SESSIONS:
                del self.sessions[next(iter(self.sessions))]
        elif number in recent or (len(recent) == SESSION_WINDOW and number < recent[0]):
            return False
        recent.append(number)
        return True

    def apply(self, kind: int, request: Any) -> Answer:
        """Do one operation, whole or (answering an error) not at all."""
        try:
            body = self._do[kind](request)
        except EtcdError as error:
            return error
        self._events += self.store.commit()
        return self.header(self.store.revision) + body

    def apply_all(self, operations: Iterable[tuple[int, Any]]) -> list[Answer]:
        """Do the operations of a log entry."""
        apply = self.apply
        return [apply(kind, request) for kind, request in operations]

    def replay(self, data: bytes) -> None:
        """Apply a log entry whose answers nobody waits for."""
        do, commit = self._do, self.store.commit
        for kind, request in decode_batch(data):
            with suppress(EtcdError):
                do[kind](request)
                self._events += commit()

    def take_events(self) -> list[Record]:
        """What was written since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def restore(self, meta: Meta, records: Iterable[bytes]) -> None:
        """Become what a snapshot says; keys are attached to leases as their records say."""
        self.store.restore(meta.revision, meta.compact_revision, records, meta.subs)
        self.leases.clear()
        for lease_id, ttl in meta.leases:
            self.leases.grant(lease_id, ttl, self._clock())
        for record in self.store.range(b"\x00", b"\x00"):
            if record.lease:
                self.leases.attach(record.lease, record.key)
        self.alarms = set(meta.alarms)
        self.sessions = {session: deque(numbers, maxlen=SESSION_WINDOW) for session, numbers in meta.sessions}
        self.published = {member: (name, tuple(urls)) for member, name, urls in meta.published}
        self.auth.restore(meta.auth)
        self.tokens.restore(meta.tokens)
        self._enforce()
        self._events = []

    def describe(self, index: int, term: int) -> Meta:
        """What a snapshot of this moment says beside the records."""
        return Meta(
            index=index,
            term=term,
            revision=self.store.revision,
            compact_revision=self.store.compact_revision,
            leases=[(lease.id, lease.ttl) for lease in self.leases],
            alarms=sorted(self.alarms),
            sessions=[(session, list(numbers)) for session, numbers in self.sessions.items()],
            published=[(member, name, list(urls)) for member, (name, urls) in self.published.items()],
            auth=self.auth.describe(),
            tokens=self.tokens.describe(),
        )

    @property
    def out_of_space(self) -> bool:
        """Whether a NOSPACE alarm is on: then only what frees space is done."""
        return any(alarm == pb.NOSPACE for _, alarm in self.alarms)

    def _put(self, request: pb.PutRequest) -> bytes:
        if self.alarms and self.out_of_space:
            raise NO_SPACE
        return self.evaluator.put(request)

    def _txn(self, request: pb.TxnRequest) -> bytes:
        if self.alarms and self.out_of_space and requests.puts(request):
            raise NO_SPACE
        return self.evaluator.txn(request)

    def _compact(self, request: pb.CompactionRequest) -> bytes:
        self.store.compact(request.revision)
        return b""

    def _grant(self, request: pb.LeaseGrantRequest) -> bytes:
        if self.alarms and self.out_of_space:
            raise NO_SPACE
        lease = self.leases.grant(request.ID, request.TTL, self._clock())
        return pb.LeaseGrantResponse(ID=lease.id, TTL=lease.ttl).SerializeToString()

    def _revoke(self, request: pb.LeaseRevokeRequest) -> bytes:
        for key in self.leases.revoke(request.ID):
            self.store.delete_range(key, b"")
        return b""

    def _expire(self, request: Expiry) -> bytes:
        if request.term != self.term:
            raise LEADER_CHANGED
        return self._revoke(pb.LeaseRevokeRequest(ID=request.lease))

    def _publish(self, member: pb.Member) -> bytes:
        self.published[member.ID] = (member.name, tuple(member.clientURLs))
        return b""

    def _alarm(self, request: pb.AlarmRequest) -> bytes:
        changed = []
        alarm = (request.memberID, request.alarm)
        if request.action == pb.AlarmRequest.ACTIVATE:
            self.alarms.add(alarm)
            changed = [alarm]
        elif request.action == pb.AlarmRequest.DEACTIVATE and alarm in self.alarms:
            self.alarms.discard(alarm)
            changed = [alarm]
        return alarm_body(changed)

    # Users and roles.

    def _attributed(self, request: Attributed) -> bytes:
        if self.auth.enabled:
            self.guard.check(Who(request.user, request.revision), request.kind, request.request)
        return self._plain[request.kind](request.request)

    def _enforce(self) -> None:
        """From here on, and in place (within a batch too), operations that no user's name stands on are refused, or not any more."""
        for kind in self.guard.kinds:
            self._do[kind] = partial(self._anonymous, kind) if self.auth.enabled else self._plain[kind]

    def _anonymous(self, kind: int, request: Any) -> bytes:
        self.guard.check(NOBODY, kind, request)
        return self._plain[kind](request)

    def _auth_enable(self, request: object) -> bytes:
        self.auth.enable()
        self._enforce()
        return b""

    def _auth_disable(self, request: object) -> bytes:
        self.auth.disable()
        self.tokens.clear()
        self._enforce()
        return b""

    def _authenticate(self, request: pb.AuthenticateRequest) -> bytes:
        self.auth.password_of(request.name)
        self.tokens.add(request.password, request.name)
        return b""

    def _user_delete(self, request: pb.AuthUserDeleteRequest) -> None:
        self.auth.user_delete(request)
        self.tokens.forget(request.name)

    def _user_change_password(self, request: pb.AuthUserChangePasswordRequest) -> None:
        self.auth.user_change_password(request)
        self.tokens.forget(request.name)


def _silent(call: Callable[[Any], None]) -> Callable[[Any], bytes]:
    """For what is answered by a header alone."""

    def done(request: Any) -> bytes:
        call(request)
        return b""

    return done


def alarm_body(alarms: Iterable[tuple[int, int]]) -> bytes:
    """An ``AlarmResponse`` without its header."""
    members = [pb.AlarmMember(memberID=member, alarm=alarm) for member, alarm in alarms]  # type: ignore[arg-type]
    return pb.AlarmResponse(alarms=members).SerializeToString()
