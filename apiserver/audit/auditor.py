"""Decides of each request, as soon as it is known who asks, what is noted of it."""

from __future__ import annotations

from kubeling.apiserver.audit.log import AuditLog
from kubeling.apiserver.audit.policy import Decision, Policy, Subject, load
from kubeling.apiserver.audit.record import Record
from kubeling.apiserver.config import Config
from kubeling.apiserver.request import Request
from kubeling.daemon.clock import Clock
from kubeling.daemon.main import UsageError


class Auditor:
    """One per server."""

    def __init__(self, policy: Policy, log: AuditLog) -> None:
        self._policy = policy
        self._log = log

    def begin(self, request: Request) -> None:
        """The user is known."""
        info = request.info
        subject = Subject(
            request.user,
            request.verb,
            info.path,
            info.group,
            info.resource,
            info.subresource,
            info.namespace,
            info.name,
        )
        request.audit = Record(request, self._policy.decide(subject), self._log.write)
        request.audit.received()

    def end(self, request: Request) -> None:
        """The request is over. One whose sender nobody knew is noted as such."""
        if request.audit is None:
            request.audit = Record(request, Decision("Metadata"), self._log.write)
        request.audit.complete()

    def close(self) -> None:
        self._log.close()


def auditor(config: Config, clock: Clock) -> Auditor | None:
    """As the flags say; None without a policy. UsageError for a policy that is none."""
    if not config.audit_policy_file:
        return None
    if not config.audit_log_path:
        raise UsageError("--audit-policy-file: where do the events go? Give --audit-log-path as well (- is the standard output)")
    made = AuditLog(
        config.audit_log_path,
        clock,
        max_size=config.audit_log_maxsize,
        max_age=config.audit_log_maxage,
        max_backups=config.audit_log_maxbackup,
    )
    return Auditor(load(config.audit_policy_file), made)
