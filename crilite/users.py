"""Who a container's process is: user, group and supplementary groups, by number or by name from the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _rows(path: str, width: int) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as table:
            rows = [line.rstrip("\n").split(":") for line in table if not line.startswith("#")]
    except OSError:
        return []
    return [row for row in rows if len(row) >= width and row[2].isdigit()]


def resolve(wanted: dict[str, Any], passwd: str = "/etc/passwd", group: str = "/etc/group") -> Identity:
    """The identity that `wanted` asks for.

    `wanted`: ``uid``/``gid`` (numbers or None, from the pod), ``name`` (``user[:group]``, from the pod or the image), ``groups`` (numbers) and
    ``strict`` (leave out the groups that the image's /etc/group adds). A name that the image does not know is a LookupError.
    """
    users, groups = _rows(passwd, 6), _rows(group, 4)
    user_part, _, group_part = str(wanted.get("name") or "").partition(":")
    uid = wanted.get("uid")
    entry: list[str] | None = None
    if uid is None:
        user_part = user_part or "0"
        entry = next((row for row in users if row[0] == user_part), None)
        if entry is None and not user_part.isdigit():
            raise LookupError(f"unable to find user {user_part}: no matching entries in the image's passwd file")
        uid = int(entry[2]) if entry else int(user_part)
    else:
        # A user from the pod replaces the image's, and the image's group belongs to the image's user.
        group_part = ""
    entry = entry or next((row for row in users if int(row[2]) == uid), None)

    gid = wanted.get("gid")
    if gid is None and group_part:
        row = next((row for row in groups if row[0] == group_part), None)
        if row is None and not group_part.isdigit():
            raise LookupError(f"unable to find group {group_part}: no matching entries in the image's group file")
        gid = int(row[2]) if row else int(group_part)
    if gid is None:
        gid = int(entry[3]) if entry and entry[3].isdigit() else 0

    extra = {int(number) for number in wanted.get("groups") or ()}
    if entry and not wanted.get("strict"):
        extra |= {int(row[2]) for row in groups if entry[0] in row[3].split(",")}
    return Identity(uid, gid, tuple(sorted(extra | {gid})), entry[5] if entry and entry[5] else "/")
