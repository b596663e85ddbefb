"""--admission-control-config-file: an AdmissionConfiguration, with what single plug-ins are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubeling.apiserver.admission.pod_security import Settings
from kubeling.daemon.main import UsageError

_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")
_POD_SECURITY = "PodSecurityConfiguration"


def load(path: str) -> Settings:
    """What PodSecurity is told. UsageError for a file that is none, or that means to tell something to a plug-in that takes nothing."""
    if not path:
        return Settings()
    flag = f"--admission-control-config-file {path}"
    document = _read(flag, Path(path))
    if document.get("kind") != "AdmissionConfiguration" or document.get("apiVersion") not in _VERSIONS:
        raise UsageError(f"{flag}: it has to be an AdmissionConfiguration of {_VERSIONS[0]}")
    found = Settings()
    for each in document.get("plugins") or ():
        name = each.get("name")
        if name != "PodSecurity":
            raise UsageError(f"{flag}: plug-in {name} takes no configuration here; PodSecurity does")
        told = each.get("configuration")
        if told is None:
            told = _read(flag, Path(path).parent / str(each.get("path") or ""))
        if told.get("kind") != _POD_SECURITY:
            raise UsageError(f"{flag}: PodSecurity takes a {_POD_SECURITY}, not a {told.get('kind')}")
        try:
            found = Settings.of(told)
        except ValueError as error:
            raise UsageError(f"{flag}: PodSecurity: {error}") from error
    return found


def _read(flag: str, path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{flag}: {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{flag}: {path} is no configuration")
    return document
