"""Credential plugins: programs that a kubeconfig names (`exec`) and that hand out a token or a certificate.

A plugin is run when the kubeconfig is read, told by an environment variable what is asked of it, and answers with an ExecCredential on its standard output
(client.authentication.k8s.io). Its answer is good for one run of ours: nothing is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_MAX_ANSWER = 1 << 20
_SECONDS = 300


class Credential(NamedTuple):
    """What a plugin answered; PEM as text."""

    token: str = ""
    cert_pem: str = ""
    key_pem: str = ""


class PluginFailed(Exception):
    """The plugin could not be run, or answered something else than a credential; the text says what to do."""


def run(spec: Mapping[str, Any], cluster: Mapping[str, Any], base: Path) -> Credential:
    """Run the plugin of a user's `exec`. `cluster` is what it may be told of the server; a command with a slash is relative to `base`."""
    version, command = spec.get("apiVersion", ""), str(spec.get("command") or "")
    if version not in _VERSIONS:
        raise PluginFailed(f"exec: apiVersion {version!r} is none of {', '.join(_VERSIONS)}")
    if not command:
        raise PluginFailed("exec: no command is given")
    mode = spec.get("interactiveMode", "IfAvailable")
    if mode not in ("Never", "IfAvailable", "Always"):
        raise PluginFailed(f"exec: interactiveMode {mode!r} is none of Never, IfAvailable, Always")
    interactive = mode != "Never" and sys.stdin.isatty()
    if mode == "Always" and not interactive:
        raise PluginFailed(f"exec plugin cannot support interactive mode: standard input of {command} is not a terminal")
    asked: dict[str, Any] = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": interactive}}
    if spec.get("provideClusterInfo"):
        asked["spec"]["cluster"] = dict(cluster)
    environment = {**os.environ, **{str(each["name"]): str(each["value"]) for each in spec.get("env") or []}}
    environment["KUBERNETES_EXEC_INFO"] = orjson.dumps(asked).decode()
    program = str(base / command) if "/" in command else command
    try:
        done = subprocess.run(
            [program, *map(str, spec.get("args") or [])],
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        hint = f"\n\n{spec['installHint']}" if spec.get("installHint") else ""
        raise PluginFailed(f"exec: executable {command} not found{hint}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluginFailed(f"exec: {command}: {error}") from error
    if done.returncode:
        raise PluginFailed(f"exec: executable {command} failed with exit code {done.returncode}")
    return _credential(done.stdout[:_MAX_ANSWER], version, command)


def _credential(answer: bytes, version: str, command: str) -> Credential:
    try:
        found = orjson.loads(answer)
        if found["kind"] != "ExecCredential" or found["apiVersion"] != version:
            raise PluginFailed(f"exec plugin {command} is configured to use API version {version}, its answer is another")
        status = found["status"]
        made = Credential(status.get("token") or "", status.get("clientCertificateData") or "", status.get("clientKeyData") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PluginFailed(f"exec plugin {command} did not answer an ExecCredential with a status") from error
    if bool(made.cert_pem) != bool(made.key_pem) or not (made.token or made.cert_pem):
        raise PluginFailed(f"exec plugin {command} answered neither a token nor a certificate with its key")
    return made
