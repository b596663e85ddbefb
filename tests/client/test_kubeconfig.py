"""Kubeconfigs as people have them, and the words for those that do not work."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from kubeling.client import kubeconfig


def document(**cluster: object) -> dict[str, object]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "demo"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }


def write(folder: Path, content: object) -> Path:
    path = folder / "config"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_current_context_is_taken(tmp_path: Path) -> None:
    config = kubeconfig.load(write(tmp_path, document()))
    assert (config.servers, config.namespace, config.token) == (("https://127.0.0.1:6443",), "demo", "t")


def test_further_servers_and_inline_data(tmp_path: Path) -> None:
    extension = [
        {"name": "kubeling.dev/servers", "extension": {"servers": ["https://127.0.0.1:6443/", "https://127.0.0.2:6443"]}}
    ]
    data = base64.b64encode(b"PEM").decode()
    config = kubeconfig.load(write(tmp_path, document(extensions=extension, **{"certificate-authority-data": data})))
    assert config.servers[0] == "https://127.0.0.1:6443"
    assert "https://127.0.0.2:6443" in config.servers
    assert config.ca_pem == "PEM"


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("CA")
    assert kubeconfig.load(write(tmp_path, document(**{"certificate-authority": "ca.pem"}))).ca_pem == "CA"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is empty"),
        ({"contexts": []}, "no current-context"),
        ({"current-context": "x", "contexts": [{"name": "y", "context": {}}]}, "no context named 'x' (there: y)"),
        (document() | {"clusters": []}, "no cluster named 'k' (there: none)"),
        (document(**{"certificate-authority-data": "%%%"}), "is not base64"),
    ],
)
def test_what_does_not_work_is_named(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(kubeconfig.KubeconfigError) as caught:
        kubeconfig.load(write(tmp_path, content))
    assert words in str(caught.value)


def test_a_missing_file_says_how_to_get_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(kubeconfig.KubeconfigError, match="Try: kubeling up"):
        kubeconfig.load(tmp_path / "nothing")
