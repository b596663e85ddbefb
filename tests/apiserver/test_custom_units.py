"""What no live test can provoke at will: a creation that meets a definition that has just changed elsewhere."""

from __future__ import annotations

import pytest

from kubeling.api.errors import ApiError
from kubeling.api.structural.definition import Definition
from kubeling.apiserver.custom.guard import Guard
from kubeling.apiserver.storage.kv import Commit
from tests.apiserver.definitions import definition


def crd(uid: str = "u", **metadata: str) -> Definition:
    obj = definition("example.com")
    obj["metadata"] |= {"uid": uid, **metadata}
    return Definition(obj)


class News:
    """Definitions that hear of something when they catch up."""

    def __init__(self, later: Definition | None) -> None:
        self.now: Definition | None = crd()
        self.later = later
        self.seen = 5

    def key(self, name: str) -> str:
        return f"/crds/{name}"

    def get(self, name: str) -> Definition | None:
        return self.now

    def revision(self, name: str) -> int:
        return self.seen

    async def refresh(self) -> None:
        self.now, self.seen = self.later, 7


FAILED = Commit(False, 9, [None, None])


async def test_a_creation_depends_on_the_definition_as_it_is_known() -> None:
    change = await Guard(News(crd()), crd()).on_create({"metadata": {}})
    [check] = change.writes
    assert (check.key, check.expect, check.check) == ("/crds/widgets.example.com", 5, True)
    again = await change.again(FAILED)
    assert again is change
    assert again.writes[0].expect == 7


@pytest.mark.parametrize(
    ("later", "code"), [(None, 404), (crd("other"), 404), (crd(deletionTimestamp="2026-01-01T00:00:00Z"), 405)]
)
async def test_a_kind_that_is_gone_or_going_takes_no_more_objects(later: Definition | None, code: int) -> None:
    change = await Guard(News(later), crd()).on_create({"metadata": {}})
    with pytest.raises(ApiError) as refused:
        await change.again(FAILED)
    assert refused.value.code == code
