"""`create KIND`: the objects are those that kubectl makes of the same lines."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.live

LINES = (
    "deployment d --image=a/b:1 --image=c --replicas=3 --port=80",
    "deployment d --image=a -- sleep 1",
    "job j --image=a -- true x",
    "cronjob cj --image=a --restart=Never --schedule=@daily -- true",
    "cm m --from-literal=a=b --from-file=one --from-file=k=one --from-file=folder",
    "configmap m --from-env-file=env",
    "secret generic s --type=some/type --from-literal=a=b --from-file=one",
    "secret tls t --cert=crt --key=key",
    "secret docker-registry r --docker-server=s --docker-username=u --docker-password=p --docker-email=e",
    "service clusterip c --tcp=80:81 --tcp=443",
    "service clusterip c --clusterip=None",
    "svc nodeport n --tcp=80:http --node-port=30011",
    "service loadbalancer l --tcp=80",
    "service externalname e --external-name=example.com",
    "sa builder",
    "ns other",
    "ingress i --rule=example.com/path*=c:80,tls=cert --rule=example.com/x=c:http --default-backend=d:80 --class=k --annotation=a=b",
    "role r --verb=get,list --verb=watch --resource=pods,deployments.apps,pods/log --resource-name=x",
    "clusterrole r --verb=get --non-resource-url=/logs/*",
    "clusterrole r --aggregation-rule=a=b",
    "rolebinding b --clusterrole=view --user=u --group=g --serviceaccount=a:b",
    "clusterrolebinding b --clusterrole=view --group=g",
    "quota q --hard=cpu=1,pods=2 --scopes=BestEffort",
    "pdb p --selector=a=b --min-available=50%",
    "priorityclass p --value=7 --description=seven --global-default=true --preemption-policy=Never",
)
REFUSED = (
    "deployment d",
    "role r --verb=get",
    "role r --resource=pods",
    "rolebinding b --role=a --clusterrole=b",
    "rolebinding b --role=a --serviceaccount=b",
    "secret tls t",
    "configmap m --from-literal=a",
    "configmap m --from-file=nothing",
    "pdb p --selector=a=b",
    "token nothing",
    "token default --bound-object-kind=Pod",
    "ingress i --rule=wrong",
)


def _full(value: Any) -> Any:
    """Without the empty fields and the status that only kubectl writes."""
    if isinstance(value, dict):
        full = {key: _full(each) for key, each in value.items()}
        return {key: each for key, each in full.items() if key != "status" and each not in (None, {})}
    return [_full(each) for each in value] if isinstance(value, list) else value


def test_create_makes_what_kubectl_makes(
    shell: Any, same: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one").write_text("1\n")
    Path("env").write_text("# not this\nA=b\n  C=d e\n")
    Path("folder").mkdir()
    Path("folder/two").write_text("2")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*make, "-keyout", "key", "-out", "crt"], check=True, capture_output=True)
    wrong = []
    for line in LINES:
        at = line.find(" -- ")
        before, after = (line[:at], line[at:]) if at >= 0 else (line, "")
        whole = f"create {before} --dry-run=client -o yaml{after}"
        theirs, ours = shell.kubectl(whole), in_process(whole)
        assert (theirs.code, ours.code) == (0, 0), f"{whole}\n{theirs}\n{ours}"
        expected, found = _full(yaml.safe_load(theirs.out)), _full(yaml.safe_load(ours.out))
        wrong += [f"{whole}\nkubectl: {expected}\nkubeling: {found}"] if expected != found else []
    for line in REFUSED:
        theirs, ours = shell.kubectl(f"create {line}"), in_process(f"create {line}")
        expected, found = (theirs.code, theirs.err.splitlines()[:1]), (ours.code, ours.err.splitlines()[:1])
        wrong += [f"create {line}\nkubectl: {expected}\nkubeling: {found}"] if expected != found else []
    assert not wrong, "\n".join(wrong)
    assert in_process("create token default --duration=10m").out.count(".") == 2
    assert in_process("create quota q --hard=pods=1").out == "resourcequota/q created\n"
    same("create quota q --hard=pods=1")
