"""The static token file: lines of `token,user,uid,"group1,group2"`."""

from __future__ import annotations

import csv
from pathlib import Path

from kubeling.apiserver.authn.user import User, authenticated
from kubeling.daemon.main import UsageError


def load_tokens(path: str) -> dict[str, User]:
    """Token → user. UsageError where the file cannot be used."""
    if not path:
        return {}
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UsageError(f"--token-auth-file {path}: {error.strerror}") from error
    found: dict[str, User] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3 or not row[0]:
            raise UsageError(f'--token-auth-file {path}, line {number}: write token,user,uid[,"group1,group2"]')
        groups = tuple(each.strip() for each in row[3].split(",") if each.strip()) if len(row) > 3 else ()
        found[row[0]] = authenticated(row[1], groups, row[2])
    return found
