"""Folders that kustomize builds, and what becomes of them: the same bytes as from kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeling.cli.dialect import write_yaml
from kubeling.cli.kustomization.problems import KustomizationError
from kubeling.cli.kustomization.target import build
from kubeling.cli.kustomization.transformers import renamed

_FOLDERS = Path(__file__).parent / "testdata" / "kustomize"
_CASES = ("patches", "overlay/base", "overlay/prod", "generators", "names/base", "names/two", "components/dev")


def _text(folder: Path) -> str:
    return "---\n".join(write_yaml(each) for each in build(str(folder))[0])


@pytest.mark.parametrize("case", _CASES)
def test_a_folder_comes_to_what_kustomize_makes_of_it(case: str) -> None:
    """With KUBELING_REWRITE=1 kubectl writes what is expected."""
    expected = _FOLDERS / "expected" / f"{case.replace('/', '-')}.yaml"
    kubectl = shutil.which("kubectl")
    if kubectl is not None:
        line = [kubectl, "kustomize", str(_FOLDERS / case)]
        done = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(_FOLDERS)})
        if os.environ.get("KUBELING_REWRITE"):
            expected.write_text(done.stdout)
        assert expected.read_text() == done.stdout
        assert sorted(build(str(_FOLDERS / case))[1]) == sorted(done.stderr.splitlines())
    assert _text(_FOLDERS / case) == expected.read_text()


def _made(tmp_path: Path, said: str, **files: str) -> Path:
    (tmp_path / "kustomization.yaml").write_text(said)
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


_POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("nonsense: 1", 'invalid Kustomization: json: unknown field "nonsense"'),
        ("labels: [{pairs: {a: b}, includeAll: true}]", 'unknown field "includeAll" in labels'),
        ("resources: p.yaml", "resources has to be a list"),
        ("kind: Other", "kind should be Kustomization or Component"),
        ("apiVersion: v1", "apiVersion for Kustomization should be kustomize.config.k8s.io/v1beta1"),
        ("helmCharts: [{name: x}]", "the field 'helmCharts' of kustomization files is not supported"),
        ("resources: ['https://example.com/x.yaml']", "'https://example.com/x.yaml' is remote"),
        ("resources: ['github.com/o/r//deploy?ref=v1']", "'github.com/o/r//deploy?ref=v1' is remote"),
        ("resources: ['git@example.com:o/r.git']", "is remote"),
        ("components: ['https://example.com/c']", "is remote"),
        ("resources: [missing.yaml]", "no such file or directory"),
        ("resources: [/etc/hostname]", "is not in or below"),
        ("configMapGenerator: [{name: x, files: [../../secret]}]", "is not in or below"),
        ("resources: [.]", "cycle detected"),
        ("resources: [p.yaml, p.yaml]", "may not add resource with an already registered id: Pod.v1.[noGrp]/p.[noNs]"),
        (
            "resources: [p.yaml]\npatches: [{patch: '{kind: Pod, apiVersion: v1, metadata: {name: q}}'}]",
            "no matches for Id Pod.v1.",
        ),
        ("resources: [p.yaml]\npatches: [{patch: '[{op: remove, path: /spec}]'}]", "must specify a target for JSON patch"),
        ("resources: [p.yaml]\npatches: [{patch: '[{op: remove, path: /no}]', target: {kind: Pod}}]", "Pod.v1.[noGrp]/p.[noNs]"),
        ("resources: [p.yaml]\nreplicas: [{name: p, count: 2}]", "resource with name p does not match a config"),
        ("configMapGenerator: [{name: x, behavior: merge}]", "does not exist; cannot merge or replace"),
        ("configMapGenerator: [{name: x, literals: [a]}]", "invalid literal source a, expected key=value"),
        ("configMapGenerator: [{name: x, literals: [a=1, a=2]}]", "cannot add key 'a', another key by that name already exists"),
        ("sortOptions: {order: other}", "must be one of [fifo, legacy]"),
        ("a: [", "MalformedYAMLError"),
    ],
)
def test_what_cannot_be_built_is_said(said: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(KustomizationError) as caught:
        build(str(_made(tmp_path, said, p=_POD)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("image", "said", "expected"),
    [
        ("nginx", {"name": "nginx", "newTag": "2"}, "nginx:2"),
        ("nginx:1@sha256:ab", {"name": "nginx", "newTag": "2"}, "nginx:2"),
        ("nginx:1", {"name": "nginx", "digest": "sha256:ab"}, "nginx@sha256:ab"),
        ("nginx:1", {"name": "nginx", "newTag": "2", "digest": "sha256:ab"}, "nginx:2@sha256:ab"),
        ("nginx:1", {"name": "nginx", "newName": "x:5000/y"}, "x:5000/y:1"),
        ("nginx:1", {"name": "nginx", "tagSuffix": "-a"}, "nginx:1-a"),
        ("nginx-extra:1", {"name": "nginx", "newTag": "2"}, "nginx-extra:1"),
        ("x:5000/nginx", {"name": "x:5000/nginx", "newTag": "2"}, "x:5000/nginx:2"),
        ("x:5000/nginx", {"name": "nginx", "newTag": "2"}, "x:5000/nginx"),
    ],
)
def test_images(image: str, said: dict[str, Any], expected: str) -> None:
    assert renamed(image, said) == expected


def test_the_verb(inside: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _made(tmp_path, "namePrefix: a-\nresources: [p.yaml]\nbases: []\ncommonLabels: {x: y}", p=_POD)
    monkeypatch.chdir(folder)
    done = inside(["kustomize"])
    assert done.code == 0
    assert done.out.startswith('apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    x: "y"\n  name: a-p\n')
    assert done.err.startswith("# Warning: 'commonLabels' is deprecated.")
    (tmp_path / "out").mkdir()
    assert inside(["kustomize", ".", "-o", "out"]).code == 0
    assert (tmp_path / "out" / "v1_pod_a-p.yaml").read_text() == done.out
    assert (
        inside(["kustomize", "nowhere"]).err == "error: must build at directory: not a valid directory: 'nowhere' is not there\n"
    )
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "kustomization.yaml").write_text("resources: [../p.yaml]")
    assert inside(["kustomize", "below"]).code == 1
    assert inside(["kustomize", "below", "--load-restrictor=LoadRestrictionsNone"]).code == 0
