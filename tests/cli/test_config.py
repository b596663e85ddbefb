"""`config`: the same lines with both programs on files of their own; what they say and what is in the files must be the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

FIRST = """
apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: a, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: eHg=}}
- {name: far.example.com, cluster: {server: "https://127.0.0.1:2", certificate-authority: ca.crt}}
users:
- {name: eve, user: {token: secret}}
- {name: adam, user: {client-certificate: cert, client-key: key}}
contexts:
- {name: one, context: {cluster: a, user: eve, namespace: web}}
- {name: two, context: {cluster: far.example.com, user: adam}}
"""
SECOND = """
apiVersion: v1
kind: Config
current-context: three
contexts:
- {name: three, context: {cluster: a, user: eve}}
- {name: one, context: {cluster: hidden, user: hidden}}
"""
LINES = (
    "view",
    "view --minify",
    "view --raw -o json",
    "view --minify --flatten --raw --context=two",
    "get-contexts",
    "get-contexts two --no-headers",
    "get-contexts nothing",
    "get-contexts -o name",
    "get-clusters",
    "get-users",
    "current-context",
    "use-context nothing",
    "use-context two",
    "set-context --current --namespace=other",
    "set-context four --cluster=a --user=eve",
    "set-context three --namespace=n",
    "set-cluster b --server=https://127.0.0.1:3 --insecure-skip-tls-verify=true",
    "set-cluster b --certificate-authority=ca.crt --embed-certs=true --tls-server-name=x",
    "set-cluster a --certificate-authority=ca.crt",
    "set-credentials eve --username=u --password=p",
    "set-credentials eve --client-certificate=ca.crt --client-key=ca.crt --embed-certs",
    "set-credentials new --exec-command=prog --exec-api-version=client.authentication.k8s.io/v1 --exec-arg=a,b --exec-env=K=v",
    "set-credentials new --exec-env=K- --exec-env=L=w",
    "set contexts.four.namespace some",
    "set clusters.far.example.com.server https://127.0.0.1:9",
    "unset contexts.four.namespace",
    "unset users.new",
    "rename-context two 2",
    "rename-context nothing 3",
    "rename-context four 2",
    "delete-context 2",
    "delete-context nothing",
    "delete-cluster b",
    "delete-cluster b",
    "delete-user adam",
    "delete-user adam",
    "current-context",
    "view --raw",
)


def _document(path: Path) -> Any:
    """What a file says: entries in order of their names, for which of them comes first means nothing, and nothing that is empty."""
    found = yaml.safe_load(path.read_text())
    for section in ("clusters", "users", "contexts"):
        found[section] = sorted(found.get(section) or [], key=lambda each: each["name"])
    return _full(found)


def _full(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _full(each) for key, each in value.items() if each not in (None, "", [], {}, False)}
    return [_full(each) for each in value] if isinstance(value, list) else value


class _Side:
    """One program with its own copies of the files; None is ours, which runs inside of the test."""

    def __init__(self, program: str | None, folder: Path) -> None:
        folder.mkdir()
        self.program, self.folder = program, folder
        self.files = [folder / "first", folder / "second"]
        for file, text in zip(self.files, (FIRST, SECOND), strict=True):
            file.write_text(text)
        for name in ("ca.crt", "cert", "key"):
            (folder / name).write_text("pem\n")

    def run(self, line: str, monkeypatch: pytest.MonkeyPatch, inside: Callable[..., Any]) -> tuple[int, str, str]:
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, self.files)))
        monkeypatch.chdir(self.folder)
        words = ["config", *line.split()]
        if self.program is None:
            found = inside(words)
            code, texts = found.code, (found.out, found.err)
        else:
            done = subprocess.run([self.program, *words], capture_output=True, text=True, check=False)
            code, texts = done.returncode, (done.stdout, done.stderr)
        out, err = (text.replace(str(self.folder), "DIR").replace("kubectl", "kubeling") for text in texts)
        # What kubectl's log says of certificates that are none.
        err = re.sub(r"^[EWI]\d{4} .*\n", "", err, flags=re.MULTILINE)
        # Keys in another order are the same object.
        return code, json.dumps(json.loads(out), sort_keys=True) if out.startswith("{") else out, err

    def saved(self) -> Any:
        text = [_document(each) for each in self.files]
        return yaml.safe_load(yaml.safe_dump(text).replace(str(self.folder), "DIR"))


def test_config_does_what_kubectl_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Callable[..., Any]) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: nothing to compare with")
    theirs, ours = _Side(kubectl, tmp_path / "theirs"), _Side(None, tmp_path / "ours")
    for line in LINES:
        expected, found = theirs.run(line, monkeypatch, inside), ours.run(line, monkeypatch, inside)
        if line in ("get-clusters", "get-users"):  # These kubectl shows in any order.
            expected = (expected[0], "".join(sorted(expected[1].splitlines(True))), expected[2])
        assert found == expected, f"config {line}\nkubectl: {expected}\nkubeling: {found}"
        assert ours.saved() == theirs.saved(), f"after config {line}"
    assert not list(ours.folder.glob("*.lock"))
    assert ours.files[0].stat().st_mode & 0o777 == 0o600
