"""What the core refuses."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be met as things are; nothing has changed."""


class NotLeader(Refused):
    """Only the leader can do this."""


class ChangeInFlight(Refused):
    """Another membership change is not yet applied, or this leader has not yet committed anything of its own."""


class NotInSync(Refused):
    """The learner lacks too much to become a voter."""


class NoSuchMember(Refused):
    """There is no member with that id."""


class AlreadyMember(Refused):
    """There is a member with that id."""


class NotLearner(Refused):
    """Only a learner can be promoted."""


class LastVoter(Refused):
    """A cluster without voters could never decide anything again."""


class TooMany(Refused):
    """A limit is reached."""


class BadTransferee(Refused):
    """Leadership can go to another voter only."""


class Diverged(Exception):
    """The leader's log contradicts what is committed here: better no member than a wrong one."""
