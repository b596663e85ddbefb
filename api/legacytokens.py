"""Tokens of ServiceAccounts that are kept in Secrets: what is noted of their use (KEP-2799), by the names that upstream gives it. Days are of UTC, `2026-01-31`."""

from __future__ import annotations

#: Labels of the Secret: the last day on which the token was shown, and since when it is refused for not having been.
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
#: The ConfigMap that says since which day uses are noted, in its key `since`.
TRACKING_NAMESPACE, TRACKING, SINCE = "kube-system", "kube-apiserver-legacy-service-account-token-tracking", "since"
