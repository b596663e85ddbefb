"""Users, roles and tokens: the rules as unit tests, and what clients of live members may and may not do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from kubeling.etcdlite.auth import NOBODY, AuthStore, Who
from kubeling.etcdlite.errors import (
    AUTH_OLD_REVISION,
    INVALID_AUTH_MANAGEMENT,
    PERMISSION_DENIED,
    ROOT_ROLE_MISSING,
    ROOT_USER_MISSING,
    USER_EMPTY,
    EtcdError,
)
from kubeling.etcdlite.ops import Attributed, Expiry, Kind, attributed, encode_batch
from kubeling.etcdlite.permissions import Ranges
from kubeling.etcdlite.snapshot import Meta
from kubeling.etcdlite.state import State
from kubeling.etcdlite.tokens import Tokens, digest
from kubeling.etcdlite.wire import HeaderMaker
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc
from kubeling.proto.auth_pb2 import Permission, UserAddOptions
from kubeling.proto.mvcc_pb2 import Event
from tests.ports import free_ports

from .members import Member, leader_of, single, trio
from .test_backup import ETCDCTL, tool
from .test_differential import real_etcd
from .test_security import Authority

CHEAP = "--bcrypt-cost=4"


# The rules.


def ranges(*spans: tuple[bytes, bytes]) -> Ranges:
    return Ranges(Permission(key=key, range_end=end) for key, end in spans)


@pytest.mark.parametrize(
    ("spans", "asked", "covered"),
    [
        ([(b"a", b"")], (b"a", b""), True),
        ([(b"a", b"")], (b"a\x00", b""), False),
        ([(b"a", b"")], (b"a", b"b"), False),
        ([(b"a/", b"a0")], (b"a/", b"a0"), True),
        ([(b"a/", b"a0")], (b"a/x", b""), True),
        ([(b"a/", b"a0")], (b"a0", b""), False),
        ([(b"a/", b"a0")], (b"a/", b"a1"), False),
        ([(b"a", b"c"), (b"c", b"e")], (b"b", b"d"), True),
        ([(b"a", b"c"), (b"b", b"e"), (b"b", b"c")], (b"a", b"e"), True),
        ([(b"a", b"c"), (b"c\x00", b"e")], (b"b", b"d"), False),
        ([(b"a", b"c"), (b"c\x00", b"e"), (b"c", b"")], (b"b", b"d"), True),
        ([(b"b", b"\x00")], (b"z", b"\x00"), True),
        ([(b"b", b"\x00")], (b"a", b"\x00"), False),
        ([(b"b", b"z")], (b"c", b"\x00"), False),
        ([(b"\x00", b"\x00")], (b"a", b"\x00"), True),
        ([(b"a", b"\x00"), (b"b", b"c")], (b"x", b"y"), True),
        ([(b"z", b"a")], (b"m", b""), False),
        ([], (b"a", b""), False),
    ],
)
def test_ranges_cover_what_lies_in_their_union(
    spans: list[tuple[bytes, bytes]], asked: tuple[bytes, bytes], covered: bool
) -> None:
    assert ranges(*spans).cover(*asked) is covered
    assert ranges(*reversed(spans)).cover(*asked) is covered


def test_ranges_agree_with_counting_keys() -> None:
    """Against sets of all keys of up to three letters, on random unions."""
    letters = [b"a", b"b", b"c", b"\x00"]
    keys = [b"".join(word) for length in (1, 2, 3) for word in itertools.product(letters, repeat=length)]
    rand = random.Random(1)

    def inside(key: bytes, end: bytes) -> set[bytes]:
        return {one for one in keys if (one == key if not end else key <= one and (end == b"\x00" or one < end))}

    for _ in range(3000):
        spans = [(rand.choice(keys), rand.choice([b"", b"\x00", *keys])) for _ in range(rand.randrange(5))]
        key, end = rand.choice(keys), rand.choice([b"", b"\x00", *keys])
        asked = inside(key, end)
        allowed: set[bytes] = set().union(*(inside(*one) for one in spans))
        if ranges(*spans).cover(key, end):
            assert asked <= allowed, (spans, key, end)
        elif asked and asked <= allowed:
            # Not covered, though all of these keys are: then longer keys in between are not.
            gaps = [one + b"\x00" * 9 for one in asked]
            open_end = end == b"\x00" and not any(last == b"\x00" for _, last in spans)
            assert open_end or any(not _in(one, spans) for one in gaps if _in(one, [(key, end)])), (spans, key, end)


def _in(key: bytes, spans: list[tuple[bytes, bytes]]) -> bool:
    return any(key == start if not end else key >= start and (end == b"\x00" or key < end) for start, end in spans)


def refused(call: Any, *args: Any, **more: Any) -> EtcdError:
    with pytest.raises(EtcdError) as caught:
        call(*args, **more)
    return caught.value


def test_root_cannot_lock_everybody_out() -> None:
    store = AuthStore()
    assert refused(store.enable) is ROOT_USER_MISSING
    store.user_add(pb.AuthUserAddRequest(name="root"))
    assert refused(store.enable) is ROOT_ROLE_MISSING
    store.user_grant_role(pb.AuthUserGrantRoleRequest(user="root", role="root"))
    store.role_add(pb.AuthRoleAddRequest(name="root"))
    store.enable()
    assert refused(store.user_delete, pb.AuthUserDeleteRequest(name="root")) is INVALID_AUTH_MANAGEMENT
    assert refused(store.role_delete, pb.AuthRoleDeleteRequest(role="root")) is INVALID_AUTH_MANAGEMENT
    assert refused(store.user_revoke_role, pb.AuthUserRevokeRoleRequest(name="root", role="root")) is INVALID_AUTH_MANAGEMENT
    store.check(Who("root", store.revision), b"\x00", b"\x00", write=True)


def test_who_somebody_is_counts_until_the_user_is_changed() -> None:
    store = AuthStore()
    for name in ("root", "ann", "bob"):
        store.user_add(pb.AuthUserAddRequest(name=name))
    store.user_grant_role(pb.AuthUserGrantRoleRequest(user="root", role="root"))
    store.enable()
    ann, root, before = Who("ann", store.revision), Who("root", store.revision), store.revision
    store.role_add(pb.AuthRoleAddRequest(name="r"))
    store.role_grant_permission(pb.AuthRoleGrantPermissionRequest(name="r", perm=Permission(key=b"k", permType=Permission.READ)))
    assert refused(store.check, ann, b"k", b"", write=False) is PERMISSION_DENIED
    store.user_grant_role(pb.AuthUserGrantRoleRequest(user="ann", role="r"))
    assert store.revision == before + 3
    store.check(ann, b"k", b"", write=False)
    assert refused(store.check, ann, b"k", b"", write=True) is PERMISSION_DENIED
    assert refused(store.check_admin, ann) is PERMISSION_DENIED
    assert refused(store.check, NOBODY, b"k", b"", write=False) is USER_EMPTY
    assert refused(store.check_admin, NOBODY) is USER_EMPTY
    other = AuthStore()
    other.restore(store.describe())
    other.check(ann, b"k", b"", write=False)
    assert other.describe() == store.describe()
    # What a role gave is gone with it.
    other.role_delete(pb.AuthRoleDeleteRequest(role="r"))
    assert refused(other.check, ann, b"k", b"", write=False) is PERMISSION_DENIED
    # Somebody else of that name is somebody else; so is whoever has another password.
    store.user_delete(pb.AuthUserDeleteRequest(name="ann"))
    assert refused(store.check, ann, b"k", b"", write=False) is PERMISSION_DENIED
    store.user_add(pb.AuthUserAddRequest(name="ann"))
    store.user_grant_role(pb.AuthUserGrantRoleRequest(user="ann", role="r"))
    assert refused(store.check, ann, b"k", b"", write=False) is AUTH_OLD_REVISION
    store.check_admin(root)
    store.user_change_password(pb.AuthUserChangePasswordRequest(name="root"))
    assert refused(store.check_admin, root) is AUTH_OLD_REVISION
    again = Who("ann", store.revision)
    store.check(again, b"k", b"", write=False)
    store.disable()
    store.enable()
    assert refused(store.check, again, b"k", b"", write=False) is AUTH_OLD_REVISION


def test_operations_of_members_that_have_not_heard_of_it_are_refused() -> None:
    """What was proposed before auth was enabled and is applied after it; within one batch too, and after a snapshot."""
    state = State(HeaderMaker(1, 1), lambda: 0.0)
    put = pb.PutRequest(key=b"k", value=b"v")
    begin = [
        (Kind.USER_ADD, pb.AuthUserAddRequest(name="root")),
        (Kind.USER_GRANT_ROLE, pb.AuthUserGrantRoleRequest(user="root", role="root")),
        (Kind.LEASE_GRANT, pb.LeaseGrantRequest(ID=7, TTL=60)),
        (Kind.PUT, pb.PutRequest(key=b"held", lease=7)),
        (Kind.AUTH_ENABLE, pb.AuthEnableRequest()),
        (Kind.PUT, put),
    ]
    assert [isinstance(one, bytes) for one in state.apply_all(begin)] == [True] * 5 + [False]
    replayed = State(HeaderMaker(1, 1), lambda: 0.0)
    replayed.replay(encode_batch(1, 1, [(kind, request.SerializeToString()) for kind, request in begin]))
    restored = State(HeaderMaker(1, 1), lambda: 0.0)
    restored.restore(Meta.decode(state.describe(5, 1).encode()), [record.wire for record in state.store.records()])
    for each in (state, replayed, restored):
        assert each.store.get(b"k") is None
        assert each.apply(Kind.PUT, put) is USER_EMPTY
        assert each.apply(Kind.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=7)) is USER_EMPTY
        assert each.apply(Kind.USER_ADD, pb.AuthUserAddRequest(name="x")) is USER_EMPTY
        named = Attributed.FromString(attributed("root", each.auth.revision, Kind.PUT, put.SerializeToString()))
        assert isinstance(each.apply(Kind.ATTRIBUTED, named), bytes)
        # That a lease has run out is nobody's wish.
        assert isinstance(each.apply(Kind.LEASE_EXPIRE, Expiry(7, each.term)), bytes)
        assert each.store.get(b"held") is None
        off = Attributed("root", each.auth.revision, Kind.AUTH_DISABLE, pb.AuthDisableRequest())
        assert isinstance(each.apply(Kind.ATTRIBUTED, off), bytes)
        assert isinstance(each.apply(Kind.PUT, put), bytes)


class Ticker:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_lives_while_it_is_used() -> None:
    clock = Ticker()
    tokens = Tokens(clock, ttl=300)
    tokens.add(digest("one"), "ann")
    tokens.add(digest("two"), "ann")
    for clock.now in (200.0, 450.0):
        assert tokens.use("one") == "ann"
    assert tokens.use("two") is None
    assert tokens.use("three") is None
    clock.now = 749.0
    tokens.restore(tokens.describe())
    tokens.add(digest("four"), "bob")
    clock.now = 1000.0
    assert tokens.use("one") == "ann"
    tokens.forget("ann")
    assert tokens.use("one") is None
    assert tokens.use("four") == "bob"
    clock.now = 2000.0
    tokens.add(digest("five"), "bob")
    assert len(tokens) == 1


# Live members.


class Client:
    """Calls to a member, in the name of whoever the token says."""

    def __init__(self, member: Member, token: str = "") -> None:
        self.member = member
        self.metadata = [("token", token)] if token else None
        self.auth = rpc.AuthStub(member.channel)
        self.kv = member.kv

    async def ask(self, call: Any, request: Any) -> Any:
        return await call(request, timeout=10, metadata=self.metadata)

    async def put(self, key: bytes, **more: Any) -> None:
        await self.ask(self.kv.Put, pb.PutRequest(key=key, **more))

    async def get(self, key: bytes, *, serializable: bool = False) -> list[bytes]:
        answer = await self.ask(self.kv.Range, pb.RangeRequest(key=key, serializable=serializable))
        return [kv.value for kv in answer.kvs]

    async def log_in(self, name: str, password: str) -> Client:
        answer = await self.auth.Authenticate(pb.AuthenticateRequest(name=name, password=password), timeout=20)
        return Client(self.member, answer.token)

    async def set_up(self) -> None:
        """root, and ann who may read a/ and write b/; and auth is on."""
        for name in ("root", "ann"):
            await self.ask(self.auth.UserAdd, pb.AuthUserAddRequest(name=name, password=f"{name}'s"))
        await self.ask(self.auth.RoleAdd, pb.AuthRoleAddRequest(name="r"))
        for kind, key, end in ((Permission.READ, b"a/", b"a0"), (Permission.WRITE, b"b/", b"b0")):
            perm = Permission(permType=kind, key=key, range_end=end)
            await self.ask(self.auth.RoleGrantPermission, pb.AuthRoleGrantPermissionRequest(name="r", perm=perm))
        for user, role in (("root", "root"), ("ann", "r")):
            await self.ask(self.auth.UserGrantRole, pb.AuthUserGrantRoleRequest(user=user, role=role))
        await self.ask(self.auth.AuthEnable, pb.AuthEnableRequest())


@contextlib.contextmanager
def denied(code: str = "PERMISSION_DENIED", text: str = "etcdserver: permission denied") -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert (caught.value.code().name, caught.value.details()) == (code, text)


@pytest.mark.live
async def test_nothing_gets_round_the_permissions(tmp_path: Path) -> None:
    """Above all what etcd 3.4 lets through: nested transactions, previous values, leases, compaction, members."""
    async with single(tmp_path, CHEAP) as member:
        nobody = Client(member)
        await nobody.set_up()
        root, ann = await nobody.log_in("root", "root's"), await nobody.log_in("ann", "ann's")
        lease, maintenance, cluster = member.lease, member.maintenance, rpc.ClusterStub(member.channel)
        await root.ask(lease.LeaseGrant, pb.LeaseGrantRequest(ID=7, TTL=600))
        await root.put(b"secret", value=b"s", lease=7)
        await ann.put(b"b/1")
        inner = pb.TxnRequest(success=[pb.RequestOp(request_range=pb.RangeRequest(key=b"secret"))])
        middle = pb.TxnRequest(failure=[pb.RequestOp(request_txn=inner)])
        with denied():
            await ann.ask(ann.kv.Txn, pb.TxnRequest(success=[pb.RequestOp(request_txn=middle)]))
        with denied():
            await ann.ask(ann.kv.Txn, pb.TxnRequest(compare=[pb.Compare(key=b"secret", value=b"s")]))
        for request in (pb.PutRequest(key=b"b/1", prev_kv=True), pb.PutRequest(key=b"b/1", lease=7)):
            with denied():
                await ann.ask(ann.kv.Txn, pb.TxnRequest(success=[pb.RequestOp(request_put=request)]))
            with denied():
                await ann.ask(ann.kv.Put, request)
        with denied():
            await ann.ask(lease.LeaseRevoke, pb.LeaseRevokeRequest(ID=7))
        with denied():
            await ann.ask(lease.LeaseTimeToLive, pb.LeaseTimeToLiveRequest(ID=7, keys=True))
        with denied():
            await ann.ask(maintenance.Alarm, pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, alarm=pb.NOSPACE))
        with denied():
            await ann.ask(cluster.MemberAdd, pb.MemberAddRequest(peerURLs=["http://127.0.0.1:1"]))
        with denied("UNKNOWN", "auth: permission denied"):
            await ann.ask(maintenance.Hash, pb.HashRequest())
        with denied("UNKNOWN", "auth: permission denied"):
            async for _ in maintenance.Snapshot(pb.SnapshotRequest(), metadata=ann.metadata):
                pass
        with denied("INVALID_ARGUMENT", "etcdserver: user name is empty"):
            await nobody.ask(cluster.MemberList, pb.MemberListRequest())
        with denied("INVALID_ARGUMENT", "etcdserver: user name is empty"):
            await nobody.ask(nobody.kv.Compact, pb.CompactionRequest(revision=1))
        assert len((await ann.ask(cluster.MemberList, pb.MemberListRequest())).members) == 1
        assert await root.get(b"secret") == [b"s"]


@pytest.mark.live
async def test_a_watch_needs_permission_to_read(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP) as member:
        nobody = Client(member)
        await nobody.set_up()
        ann = await nobody.log_in("ann", "ann's")
        call = rpc.WatchStub(member.channel).Watch(metadata=ann.metadata)
        for key, end in ((b"b/", b"b0"), (b"a/", b"a0")):
            await call.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, range_end=end)))
        refusal, created = await call.read(), await call.read()
        assert (refusal.watch_id, refusal.created, refusal.canceled) == (-1, True, True)
        assert refusal.cancel_reason == "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        assert created.created
        assert not created.canceled
        await (await nobody.log_in("root", "root's")).put(b"a/1")
        assert [event.kv.key for event in (await call.read()).events] == [b"a/1"]
        call.cancel()


@pytest.mark.live
async def test_a_lease_runs_out_although_nobody_says_so(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP) as member:
        nobody = Client(member)
        await nobody.set_up()
        root = await nobody.log_in("root", "root's")
        await root.ask(member.lease.LeaseGrant, pb.LeaseGrantRequest(ID=7, TTL=2))
        await root.put(b"k", lease=7)
        call = rpc.WatchStub(member.channel).Watch(metadata=root.metadata)
        await call.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")))
        assert (await call.read()).created
        async with asyncio.timeout(10):
            told = await call.read()
        assert [event.type for event in told.events] == [Event.DELETE]
        call.cancel()


@pytest.mark.live
async def test_users_survive_a_restart_from_log_and_from_snapshot(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP) as member:
        nobody = Client(member)
        await nobody.set_up()
        ann = await nobody.log_in("ann", "ann's")
        root = await nobody.log_in("root", "root's")
        for _ in range(2):
            await member.kill()
            await member.start()
            # Tokens too: they are in the log, and in the snapshot.
            assert await ann.get(b"a/1") == []
            with denied():
                await ann.get(b"b/1")
            with denied("INVALID_ARGUMENT", "etcdserver: user name is empty"):
                await nobody.get(b"a/1")
            await root.ask(member.maintenance.Defragment, pb.DefragmentRequest())
        password = b"ann's"
        files = [path for path in member.data.rglob("*") if path.is_file()]
        assert files
        assert not any(password in path.read_bytes() for path in files)


@pytest.mark.live
async def test_every_member_checks_and_knows_a_new_token(tmp_path: Path) -> None:
    async with trio(tmp_path, CHEAP) as members:
        leader = await leader_of(members)
        followers = [member for member in members if member is not leader]
        await Client(followers[0]).set_up()
        for _ in range(5):
            token = (await Client(followers[0]).log_in("ann", "ann's")).metadata
            assert token is not None
            # At once, also where only the log will tell.
            others = [Client(member, token[0][1]) for member in members]
            assert await asyncio.gather(*(client.get(b"a/1", serializable=True) for client in others)) == [[]] * 3
        for client in others:
            with denied():
                await client.put(b"a/1")
            await client.put(b"b/1")
        with denied("UNAUTHENTICATED", "etcdserver: invalid auth token"):
            await Client(followers[1], "made up").get(b"a/1")
        root = await Client(leader).log_in("root", "root's")
        change = pb.AuthUserChangePasswordRequest(name="ann", password="new")
        await root.ask(root.auth.UserChangePassword, change)
        with denied("UNAUTHENTICATED", "etcdserver: invalid auth token"):
            await others[1].get(b"a/1")
        with denied("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password"):
            await Client(leader).log_in("ann", "ann's")
        await Client(leader).log_in("ann", "new")


@pytest.mark.live
async def test_changes_of_users_do_not_disturb_others_and_count_at_once(tmp_path: Path) -> None:
    async with trio(tmp_path, CHEAP) as members:
        leader = await leader_of(members)
        await Client(leader).set_up()
        root = await Client(leader).log_in("root", "root's")
        token = (await Client(leader).log_in("ann", "ann's")).metadata
        anns = [Client(member, (token or [("", "")])[0][1]) for member in members]
        done = False

        async def write(client: Client) -> int:
            count = 0
            while not done:
                await client.put(b"b/%d" % count)
                count += 1
            return count

        writers = [asyncio.ensure_future(write(client)) for client in anns for _ in range(3)]
        for number in range(60):
            # Each makes the revision that others' writes have been stamped with an old one.
            await root.ask(root.auth.RoleAdd, pb.AuthRoleAddRequest(name=f"r{number}"))
        done = True
        assert min(await asyncio.gather(*writers)) > 5
        for _ in range(10):
            await root.ask(root.auth.UserRevokeRole, pb.AuthUserRevokeRoleRequest(name="ann", role="r"))
            for client in anns:
                with denied():
                    await client.put(b"b/1")
                with denied():
                    await client.get(b"a/1")
            await root.ask(root.auth.UserGrantRole, pb.AuthUserGrantRoleRequest(user="ann", role="r"))
            await asyncio.gather(*(client.put(b"b/1") for client in anns), *(client.get(b"a/1") for client in anns))


@pytest.mark.live
async def test_a_member_that_lost_its_disk_gets_the_users_with_the_snapshot(tmp_path: Path) -> None:
    async with trio(tmp_path, CHEAP, "--snapshot-log-bytes=65536") as members:
        leader = await leader_of(members)
        await Client(leader).set_up()
        ann, root = await Client(leader).log_in("ann", "ann's"), await Client(leader).log_in("root", "root's")
        victim = next(member for member in members if member is not leader)
        await victim.kill()
        # More than a leader keeps behind its snapshot.
        for number in range(14):
            await ann.put(b"b/%d" % number, value=bytes(1_000_000))
        shutil.rmtree(victim.data)
        await victim.start("--initial-cluster-state=existing")
        assert "installed a snapshot" in victim.log
        there = [Client(victim, (client.metadata or [("", "")])[0][1]) for client in (ann, root)]
        assert await there[0].get(b"a/1") == []
        assert await there[1].get(b"b/13") == [bytes(1_000_000)]
        for serializable in (False, True):
            with denied():
                await there[0].get(b"b/1", serializable=serializable)
            with denied("INVALID_ARGUMENT", "etcdserver: user name is empty"):
                await Client(victim).get(b"a/1", serializable=serializable)


@pytest.mark.live
async def test_only_who_may_write_fills_the_store_up(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP, "--quota-backend-bytes=100000") as member:
        nobody = Client(member)
        await nobody.set_up()
        ann, root = await nobody.log_in("ann", "ann's"), await nobody.log_in("root", "root's")
        big = bytes(200_000)
        put = pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=b"a/1", value=big))])
        for client, code, text in (
            (ann, "PERMISSION_DENIED", "etcdserver: permission denied"),
            (nobody, "INVALID_ARGUMENT", "etcdserver: user name is empty"),
        ):
            with denied(code, text):
                await client.put(b"a/1", value=big)
            with denied(code, text):
                await client.ask(client.kv.Txn, put)
        assert not (await root.ask(member.maintenance.Alarm, pb.AlarmRequest())).alarms
        with denied("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"):
            await root.put(b"a/1", value=big)
        assert len((await root.ask(member.maintenance.Alarm, pb.AlarmRequest())).alarms) == 1


@pytest.mark.live
async def test_the_gateway_takes_tokens_too(tmp_path: Path) -> None:
    async with single(tmp_path, CHEAP) as member, httpx.AsyncClient(base_url=f"http://{member.endpoint}/v3") as web:
        await Client(member).set_up()
        assert (await web.post("/auth/status", json={})).json()["enabled"]
        said = await web.post("/auth/authenticate", json={"name": "ann", "password": "ann's"})
        headers = {"authorization": said.json()["token"]}
        assert (await web.post("/kv/put", json={"key": "Yi8x"}, headers=headers)).status_code == 200
        refusal = await web.post("/kv/put", json={"key": "YS8x"}, headers=headers)
        assert (refusal.status_code, refusal.json()["message"]) == (403, "etcdserver: permission denied")
        refusal = await web.post("/kv/put", json={"key": "Yi8x"}, headers={"authorization": "x"})
        assert (refusal.status_code, refusal.json()["message"]) == (401, "etcdserver: invalid auth token")


@pytest.mark.live
async def test_a_certificate_says_who_it_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    for name in ("server", "root", "ann", "stranger"):
        authority.issue(name)
    flags = [
        f"--cert-file={authority.path('server')}",
        f"--key-file={authority.path('server', 'key')}",
        f"--trusted-ca-file={authority.path('ca')}",
        "--client-cert-auth",
        CHEAP,
    ]
    port, peer_port = free_ports(2)
    member = Member("solo", tmp_path, port, peer_port, [f"--listen-client-urls=https://127.0.0.1:{port}", *flags])
    clients: dict[str, Client] = {}
    channels = contextlib.AsyncExitStack()
    try:
        await member.launch()
        for name in ("root", "ann", "stranger"):
            credentials = grpc.ssl_channel_credentials(authority.read("ca"), authority.read(name, "key"), authority.read(name))
            member.channel = await channels.enter_async_context(grpc.aio.secure_channel(member.endpoint, credentials))
            clients[name] = Client(member)
        root, ann, stranger = clients.values()
        await root.kv.Range(pb.RangeRequest(key=b"k"), timeout=20, wait_for_ready=True)
        await root.set_up()
        await root.put(b"a/1", value=b"v")
        assert await ann.get(b"a/1") == [b"v"]
        with denied():
            await ann.put(b"a/1")
        with denied():
            await stranger.get(b"a/1")
        # A token counts more than the certificate.
        token = await ann.log_in("root", "root's")
        ann.metadata = token.metadata
        await ann.put(b"a/1", value=b"w")
    finally:
        member.channel = None
        await channels.aclose()
        await member.close()


@pytest.mark.live
async def test_signed_tokens_are_known_to_every_member_and_grow_old(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    authority.issue("signer")
    flag = f"--auth-token=jwt,sign-method=ES256,priv-key={authority.path('signer', 'key')},ttl=1h"
    async with single(tmp_path, CHEAP, flag) as member:
        nobody = Client(member)
        await nobody.set_up()
        ann, root = await nobody.log_in("ann", "ann's"), await nobody.log_in("root", "root's")
        await ann.put(b"b/1")
        await member.kill()
        await member.start()
        await ann.put(b"b/1")
        forged = (ann.metadata or [("", "")])[0][1][:-4] + "AAAA"
        with denied("UNAUTHENTICATED", "etcdserver: invalid auth token"):
            await Client(member, forged).put(b"b/1")
        await root.ask(root.auth.UserAdd, pb.AuthUserAddRequest(name="bob", options=UserAddOptions(no_password=True)))
        await ann.put(b"b/1")
        await root.ask(root.auth.UserChangePassword, pb.AuthUserChangePasswordRequest(name="ann", password="new"))
        with denied("INVALID_ARGUMENT", "etcdserver: revision of auth store is old"):
            await ann.put(b"b/1")
        await (await nobody.log_in("ann", "new")).put(b"b/1")


@pytest.mark.live
@pytest.mark.skipif(ETCDCTL is None or shutil.which("etcd") is None, reason="needs etcdctl and etcd")
async def test_users_travel_in_backups_both_ways(tmp_path: Path) -> None:
    backup, back = tmp_path / "backup.db", tmp_path / "back.db"
    etcdctl = (str(ETCDCTL),)
    async with single(tmp_path, CHEAP) as member:
        nobody = Client(member)
        await nobody.set_up()
        as_root = ("--user", "root:root's", "--endpoints", member.endpoint)
        status, out = await tool("save", tmp_path / "own.db", "--endpoints", member.endpoint)
        assert (status, "user name is empty" in out) == (1, True)
        status, out = await tool("save", tmp_path / "own.db", *as_root)
        assert status == 0, out
        status, out = await tool(*as_root, "snapshot", "save", backup, program=etcdctl)
        assert status == 0, out
    peer_url = "http://127.0.0.1:2380"
    cluster = ("--initial-cluster", f"default={peer_url}", "--initial-advertise-peer-urls", peer_url)
    status, out = await tool("snapshot", "restore", backup, "--data-dir", tmp_path / "etcd", *cluster, program=etcdctl)
    assert status == 0, out
    async with real_etcd(tmp_path) as address:
        as_ann = ("--user", "ann:ann's", "--endpoints", address)
        assert await tool(*as_ann, "put", "b/1", "v", program=etcdctl) == (0, "OK\n")
        status, out = await tool(*as_ann, "put", "a/1", "v", program=etcdctl)
        assert status != 0
        assert "permission denied" in out
        status, out = await tool("--user", "root:root's", "--endpoints", address, "snapshot", "save", back, program=etcdctl)
        assert status == 0, out
    status, out = await tool("restore", back, "--data-dir", tmp_path / "again" / "solo")
    assert status == 0, out
    (tmp_path / "again").mkdir(exist_ok=True)
    async with single(tmp_path / "again", CHEAP) as member:
        ann = await Client(member).log_in("ann", "ann's")
        await ann.put(b"b/2")
        with denied():
            await ann.get(b"b/1")
