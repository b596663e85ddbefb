"""v3lockpb.Lock: whoever holds the oldest key under a name has the lock, until it unlocks or its lease runs out."""

from __future__ import annotations

from kubeling.etcdlite.errors import EtcdError
from kubeling.etcdlite.recipes import Recipes, created_at, get, oldest, put
from kubeling.etcdlite.rpc import Context, Service, service, unary
from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import lock_pb2

SESSION_EXPIRED = EtcdError("UNKNOWN", "mutex: session is expired")


def handler(recipes: Recipes) -> Service:
    """The Lock service."""
    lock = _Lock(recipes)
    return service("v3lockpb.Lock", {"Lock": unary(lock.lock), "Unlock": unary(lock.unlock)})


class _Lock:
    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    async def lock(self, raw: bytes, context: Context) -> bytes:
        request = lock_pb2.LockRequest.FromString(raw)
        recipes, prefix = self._recipes, request.name + b"/"
        lease = await recipes.lease(request.lease, context)
        key = prefix + b"%x" % lease
        # Again by the same lease: the key that is there counts.
        owner = get(oldest(prefix))
        attempt = pb.TxnRequest(
            compare=[created_at(key, 0)],
            success=[put(key, b"", lease), owner],
            failure=[get(pb.RangeRequest(key=key)), owner],
        )
        tried = await recipes.txn(attempt, context)
        mine = tried.header.revision if tried.succeeded else tried.responses[0].response_range.kvs[0].create_revision
        owners = tried.responses[1].response_range.kvs
        if not owners or owners[0].create_revision == mine:
            return lock_pb2.LockResponse(header=tried.header, key=key).SerializeToString()
        try:
            await recipes.wait_deletes(prefix, mine - 1, context)
            found = await recipes.range(pb.RangeRequest(key=key), context)
        except BaseException:
            # Above all where the client is gone: nobody shall wait for its turn.
            recipes.clean_up(recipes.delete(key, context))
            raise
        if not found.kvs:
            raise SESSION_EXPIRED
        return lock_pb2.LockResponse(header=found.header, key=key).SerializeToString()

    async def unlock(self, raw: bytes, context: Context) -> bytes:
        deleted = await self._recipes.delete(lock_pb2.UnlockRequest.FromString(raw).key, context)
        return lock_pb2.UnlockResponse(header=deleted.header).SerializeToString()
