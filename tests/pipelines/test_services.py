"""MLflow's server, as `make services` opens it: on loopback as it is, elsewhere to who has an account."""

import base64
import json
import socket
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from latentops.errors import LatentOpsError
from pipelines import services

ELSEWHERE = "127.0.0.2"  # any address but the usual one counts as open, and this one leaves no machine
SECRETS = {"MLFLOW_AUTH_ADMIN_PASSWORD": "a long password", "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key"}


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without services, and a shell without secrets."""
    monkeypatch.chdir(tmp_path)
    for name in (*services.SECRETS, services.ACCOUNTS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def mlflow(host: str, port: int = 5000) -> services.Service:
    return next(each for each in services.services(4200, port, host) if each.name == "mlflow")


def test_on_loopback_nobody_is_asked_for_an_account() -> None:
    assert "basic-auth" not in mlflow(services.HOST).command


@pytest.mark.parametrize("missing", SECRETS)
def test_beyond_loopback_it_refuses_without_its_secrets(
    secrets: None, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(LatentOpsError, match=f"only with its authentication on; set {missing} in"):
        mlflow("models.example.org")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*"])
def test_every_address_at_once_is_refused(secrets: None, host: str) -> None:
    with pytest.raises(LatentOpsError, match="give the one that others know this machine by"):
        mlflow(host)


def test_prefect_stays_on_loopback_and_no_secret_is_an_argument(secrets: None) -> None:
    for service in services.services(4200, 5000, "models.example.org"):
        assert not set(SECRETS.values()) & {*service.command, *service.environment.values()}
        if service.name != "mlflow":
            assert "models.example.org" not in " ".join((*service.command, service.page))


def ask(address: str, **headers: str) -> tuple[int, str]:
    """The status and the text of an answer to a search for experiments."""
    body = json.dumps({"max_results": 1}).encode()
    sent = {"Content-Type": "application/json", **headers}
    try:
        with urlopen(Request(f"{address}/api/2.0/mlflow/experiments/search", body, sent), timeout=300) as got:
            return got.status, got.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_opened_it_answers_to_an_account_at_its_own_name_alone(
    secrets: None, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "STARTS_WITHIN", 600)  # beside other tests
    with socket.socket() as free:
        free.bind((ELSEWHERE, 0))
        port = free.getsockname()[1]
    found = mlflow(ELSEWHERE, port)
    service = replace(found, environment={**found.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    request.addfinalizer(lambda: services.stop_one(service.pid_file))
    services.start_one(service)

    def account(password: str) -> str:
        return f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"

    right = account(SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"])
    assert ask(service.page)[0] == 401
    assert ask(service.page, Authorization=account("a guess"))[0] == 401
    status, answer = ask(service.page, Authorization=right, Origin=service.page)
    assert status == 200, answer
    assert "experiments" in answer
    assert ask(service.page, Authorization=right, Host="elsewhere.example.org")[0] == 403
    assert ask(service.page, Authorization=right, Origin="http://elsewhere.example.org")[0] == 403
    assert (tmp_path / "var/mlflow/accounts.db").exists()
