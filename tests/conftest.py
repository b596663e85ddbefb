"""`--dist loadgroup` on pytest 9.2, where pytest-xdist 3.8 has no effect.

xdist marks a test's group at the end of its id, in an attribute that pytest does not read any more since ids are structured. Without it the tests of a
group run side by side, and those that break the shared cluster's daemons break the others' tests.
"""

from __future__ import annotations

import os
import re

import pytest

#: What xdist puts behind the id of a test of a group.
_GROUP = re.compile(r"@[\w-]+\]?$")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many again as there are processors: a live test waits for half of its time."""
    processors = os.cpu_count() or 1
    return processors + processors // 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        marked = vars(item).get("_nodeid") or getattr(item, "_nodeid", "")
        identity = getattr(item, "_id", None)
        if identity is not None and "@" in str(marked).rpartition("]")[2] and str(identity) != marked:
            item._id = type(identity).parse(marked)  # type: ignore[attr-defined]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remember what failed without its group, so that `--last-failed` finds it when it is run by itself."""
    cache = getattr(session.config, "cache", None)
    if cache is None or hasattr(session.config, "workerinput"):
        return
    failed = cache.get("cache/lastfailed", {})
    plain = {_GROUP.sub("", each): True for each in failed}
    if plain != failed:
        cache.set("cache/lastfailed", plain)
