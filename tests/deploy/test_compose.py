"""deploy/docker-compose.yml for real: see try_compose.sh, which does it and prints the figures."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("try_compose.sh")
TOOLS = ("dockerd", "docker", "docker-compose", "debootstrap", "kubectl", "curl", "ip", "nsenter")


@pytest.mark.live
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_compose_file_brings_up_a_cluster_that_survives_losses(tmp_path: Path) -> None:
    if os.environ.get("KUBELING_TEST_COMPOSE") != "1":
        pytest.skip("takes minutes and downloads a base system: set KUBELING_TEST_COMPOSE=1 to try it")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root can start dockerd")
    environment = {**os.environ, "KEEP_LOGS": str(tmp_path / "logs")}
    tried = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    print(tried.stdout)
    assert tried.returncode == 0, tried.stdout + tried.stderr
