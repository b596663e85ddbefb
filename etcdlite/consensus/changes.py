"""What each membership change makes of a configuration, and what is refused."""

from __future__ import annotations

from kubeling.etcdlite.consensus.configuration import MAX_INFO, MAX_TAG, Change, ChangeKind, Configuration, Member
from kubeling.etcdlite.consensus.errors import AlreadyMember, LastVoter, NoSuchMember, NotInSync, NotLearner, TooMany
from kubeling.etcdlite.consensus.types import Settings


def changed(configuration: Configuration, change: Change, lacks: int, settings: Settings) -> Configuration:
    """The configuration after `change`; `lacks` is how many entries the member has not acknowledged. Raises Refused."""
    known = configuration.members.get(change.member)
    if len(change.info) > MAX_INFO or len(change.tag) > MAX_TAG:
        raise TooMany("what is to be kept of a member is too long")
    if change.kind in (ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER):
        if known is not None or not change.member:
            raise AlreadyMember(f"{change.member:x} is a member already")
        if len(configuration.members) >= settings.max_members:
            raise TooMany(f"there are {len(configuration.members)} members already")
        return configuration.with_member(Member(change.member, change.kind is ChangeKind.ADD_LEARNER, change.info))
    if known is None:
        raise NoSuchMember(f"{change.member:x} is no member")
    if change.kind is ChangeKind.UPDATE:
        return configuration.with_member(Member(known.id, known.learner, change.info))
    if change.kind is ChangeKind.PROMOTE:
        if not known.learner:
            raise NotLearner(f"{change.member:x} is no learner")
        if lacks > settings.promote_lag:
            raise NotInSync(f"{change.member:x} lacks {lacks} entries")
        return configuration.with_member(Member(known.id, False, known.info))
    if configuration.voters == (change.member,):
        raise LastVoter(f"{change.member:x} is the only voter")
    return configuration.without(change.member)
