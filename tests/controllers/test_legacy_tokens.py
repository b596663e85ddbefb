"""What becomes of tokens that nobody uses: nothing, a mark, the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kubeling.api.legacytokens import INVALID_SINCE, LAST_USED
from kubeling.controllers.legacy_tokens import verdict

NOW, YEAR = datetime(2026, 6, 1, 12, tzinfo=UTC), timedelta(days=365)


@pytest.mark.parametrize(
    ("made", "labels", "due"),
    [
        ("2026-01-01T00:00:00Z", {}, "keep"),
        ("2020-01-01T00:00:00Z", {}, "mark"),
        ("2020-01-01T00:00:00Z", {LAST_USED: "2025-06-01"}, "keep"),
        ("2020-01-01T00:00:00Z", {LAST_USED: "2025-05-31"}, "mark"),
        ("2020-01-01T00:00:00Z", {INVALID_SINCE: "2025-06-01"}, "keep"),
        ("2020-01-01T00:00:00Z", {INVALID_SINCE: "2025-05-31"}, "delete"),
        ("2020-01-01T00:00:00Z", {INVALID_SINCE: "2025-05-31", LAST_USED: "2026-05-31"}, "keep"),
        ("2020-01-01T00:00:00Z", {INVALID_SINCE: "some day", LAST_USED: "once"}, "mark"),
    ],
)
def test_verdict(made: str, labels: dict[str, str], due: str) -> None:
    secret = {"metadata": {"name": "x", "creationTimestamp": made, "labels": labels}}
    assert verdict(secret, NOW, YEAR) == due
