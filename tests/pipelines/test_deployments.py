import pytest
import yaml

from latentops.errors import ConfigError, LatentOpsError
from pipelines import deployments


def test_without_a_server_the_schedule_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "has_server", lambda: False)
    with pytest.raises(LatentOpsError, match="run `make services`"):
        deployments.main()


def test_what_is_no_cron_expression_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch, request) -> None:
    params = yaml.safe_load((request.config.rootpath / "params.yaml").read_text())
    params["retrain"]["cron"] = "99 3 * * *"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    monkeypatch.setenv("LATENTOPS_PARAMS", str(path))
    monkeypatch.setattr(deployments, "has_server", lambda: True)
    with pytest.raises(ConfigError, match=r"retrain\.cron: '99 3 \* \* \*' is no cron expression"):
        deployments.main()
