"""Why an image cannot be had, in upstream's words."""

from __future__ import annotations

from kubeling.kubelet.cri import RuntimeFailure
from kubeling.kubelet.images import _explain


def test_what_the_runtime_says_becomes_the_reason() -> None:
    failure = RuntimeFailure("UNKNOWN", "SignatureValidationFailed: x:1: it has no signature")
    assert _explain("x:1", failure) == (
        "SignatureValidationFailed",
        "image pull failed for x:1 because the signature validation failed: x:1: it has no signature",
    )
    failure = RuntimeFailure("UNKNOWN", "RegistryUnavailable: cannot pull x:1: no route")
    assert _explain("x:1", failure)[0] == "RegistryUnavailable"
    failure = RuntimeFailure("NOT_FOUND", "x:1: not found")
    assert _explain("x:1", failure) == ("ErrImagePull", "rpc error: code = NotFound desc = x:1: not found")
