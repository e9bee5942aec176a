"""What containers and systemd are told to run is there, and nothing is open beyond loopback unguarded."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.services import ACCOUNTS, SECRETS

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "compose.yaml").read_text())
    return found


def commands(compose: dict[str, Any]) -> dict[str, list[str]]:
    """The words of each service's command; of a shell's, those after `exec`."""
    found = {}
    for name, service in compose["services"].items():
        words = service.get("command", [])
        found[name] = words[-1].partition("exec ")[2].split() if words[:2] == ["sh", "-c"] else words
    return found


@pytest.mark.slow
@pytest.mark.parametrize("service", ["mlflow", "prefect", "worker"])
def test_each_command_is_one_that_the_environment_has(compose: dict[str, Any], service: str) -> None:
    words = commands(compose)[service]
    names = [word for word in words if not word.startswith("-")]
    verbs = names[:2] if service == "mlflow" else names[:3]
    asked = [str(BIN / verbs[0]), *verbs[1:], "--help"]
    helped = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in helped


def test_what_is_published_is_on_loopback_at_the_ports_of_make_services(
    compose: dict[str, Any], root: Path
) -> None:
    published = {name: each.get("ports", []) for name, each in compose["services"].items()}
    makefile = (root / "Makefile").read_text()
    for name in ("mlflow", "prefect"):
        port = re.search(rf"^{name.upper()}_PORT \?= (\d+)$", makefile, re.MULTILINE)
        assert port is not None
        assert published.pop(name) == [f"127.0.0.1:{port[1]}:{port[1]}"]
        assert f"--port={port[1]}" in commands(compose)[name]
    assert not any(published.values())


def test_mlflow_asks_who_is_there_and_needs_its_secrets(compose: dict[str, Any]) -> None:
    mlflow = compose["services"]["mlflow"]
    assert "--app-name=basic-auth" in mlflow["command"]
    for name in SECRETS:
        assert mlflow["environment"][name] == f"${{{name}:?}}"
    assert mlflow["environment"][ACCOUNTS] == mlflow["configs"][0]["target"]


def test_the_files_that_are_named_exist(compose: dict[str, Any], root: Path) -> None:
    build = compose["services"]["worker"]["build"]
    dockerfile = (root / build["dockerfile"]).read_text()
    for name in re.findall(r"^COPY (\S+)", dockerfile, re.MULTILINE):
        assert (root / name).is_file()
    for unit in (root / "deploy").glob("*.service"):
        for target in re.findall(r"^Exec\w+=\S+make (\S+)$", unit.read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", ["latentops.service", "latentops-worker.service"])
def test_systemd_takes_the_unit(unit: str, root: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    text = (root / "deploy" / unit).read_text().replace("/srv/latentops/.venv", str(BIN.parent))
    (tmp_path / unit).write_text(text.replace("/srv/latentops", str(root)))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert unit not in said.stderr
    assert said.returncode == 0, said.stderr
