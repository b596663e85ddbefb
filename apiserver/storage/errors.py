"""What can go wrong between the apiserver and its store, told apart by what the caller may do next."""

from __future__ import annotations

from kubeling.api import errors
from kubeling.api.errors import ApiError


class StoreError(Exception):
    """The store refused or did not answer."""


class Unavailable(StoreError):
    """No endpoint answered, and nothing was done."""


class OutcomeUnknown(StoreError):
    """A write was sent and may or may not have taken effect."""


class Compacted(StoreError):
    """The revision asked for is gone."""


class FutureRevision(StoreError):
    """The revision asked for has not happened yet."""


class Undecryptable(StoreError):
    """What is stored under a key was encrypted with a key that is not there, or was tampered with."""


class NoSpace(StoreError):
    """The store is full; it takes reads and deletes only."""


class TooLarge(StoreError):
    """The value is over the store's own limit."""


def to_api_error(error: StoreError) -> ApiError:
    """The Status that a client gets for it."""
    if isinstance(error, Compacted):
        return errors.expired("The provided resource version is too old: the requested revision has been compacted")
    if isinstance(error, Undecryptable):
        return errors.internal(str(error))
    if isinstance(error, FutureRevision):
        return errors.timeout(f"Too large resource version: {error}", 1)
    if isinstance(error, TooLarge):
        return errors.too_large("etcdserver: request is too large")
    if isinstance(error, NoSpace):
        return errors.failure(500, "InternalError", "etcdserver: mvcc: database space exceeded")
    if isinstance(error, OutcomeUnknown):
        return errors.timeout("the store did not confirm the write; it may or may not have been done")
    return errors.service_unavailable(f"the store is not available: {error}")
