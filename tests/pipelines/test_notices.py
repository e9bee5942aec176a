"""Notices of retraining, as real receivers on this machine get them: over HTTP and over SMTP."""

import base64
import contextlib
import getpass
import json
import os
import shlex
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

from latentops.errors import ConfigError, UnknownNameError
from pipelines import deployments, notices, services
from pipelines import retrain as retraining
from pipelines.decisions import LEDGER, Decision
from pipelines.notices import REPORT, Email, notice_of
from pipelines.retrain import retrain

PLANTED = "SECRET-CELL-4711"
VARIANTS = ["sparse", "denoising"]
WAIT = 30  # seconds for what is under way already
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def gate(name: str, value: float | None, limit: float | None, passed: bool) -> dict[str, Any]:
    return {"gate": name, "value": value, "limit": limit, "passed": passed, "text": f"as of {PLANTED}"}


def question(value: float, met: bool) -> dict[str, Any]:
    return {"asked": "drift", "value": value, "limit": 0.01, "met": met}


MOVED = {"of": "column mean radius", "test": "Kolmogorov–Smirnov", "corrected": 0.0008}
TOLD: dict[str, Any] = {
    "files": ({"name": "june.csv", "sha256": "0"},),
    "rows": {"new": 23, "clean": 21, "known": 2, "bad": 2},
    "bad_reasons": {f"mean radius: {PLANTED!r} is not a number": 2},
    "questions": [question(0.0008, True)],
    "drift": {"drifted": True, "findings": [MOVED]},
}
BEATEN = gate("beats pca", 0.02, 0.0, True)
NEWS = {
    "success": Decision(
        "breast_cancer",
        "promoted",
        f"sparse is champion, {PLANTED}",
        gates=(BEATEN, gate("champion", 0.0123, -0.01, True)),
        version=4,
        **TOLD,
    ),
    "held": Decision(
        "breast_cancer",
        "held",
        f"held by {PLANTED}",
        gates=(BEATEN, gate("champion", -0.0312, -0.01, False), gate("approval", None, None, False)),
        version=3,
        **TOLD,
    ),
    "failed": Decision(
        "breast_cancer",
        "failed",
        f"1 failed\n  train@breast_cancer-sparse: a value such as '{PLANTED}' is not a number",
        **TOLD,
    ),
    "drift": Decision("breast_cancer", "waiting", f"but only 1 hour, {PLANTED}", **TOLD),
    "rejected": Decision(
        "breast_cancer", "rejected", f"june.csv: '{PLANTED}' is no number", files=TOLD["files"]
    ),
}
OF_NUMBERS = {
    "success": ("auroc: +0.0123 against the champion before", "version 4 is live"),
    "held": ("held by champion = -0.0312 (limit -0.01)", "held by approval\n", "version 3 stays live"),
    "failed": ("failed at train@breast_cancer-sparse;",),
    "drift": (),
}


def told(decision: Decision) -> tuple[str, str]:
    notice = notice_of(decision, "auroc", VARIANTS, "the link")
    assert notice is not None
    return notice.subject, notice.body


@pytest.mark.parametrize("kind", NEWS)
def test_a_notice_is_one_subject_line_and_a_body_without_any_value_of_a_row(kind: str) -> None:
    subject, body = told(NEWS[kind])
    assert subject == f"LatentOps: breast_cancer: {kind}"
    assert PLANTED in str(NEWS[kind])
    assert PLANTED not in body
    assert body.splitlines()[-1] == "the link"


@pytest.mark.parametrize("kind", OF_NUMBERS)
def test_a_notice_has_the_numbers_that_matter(kind: str) -> None:
    _, body = told(NEWS[kind])
    drift = "drift: smallest corrected p = 0.0008 (column mean radius), retrain.drift_alpha = 0.01"
    for part in ("rows: 19 clean new, 2 bad", drift, *OF_NUMBERS[kind]):
        assert part in body


def test_a_rejected_file_is_named() -> None:
    assert "rejected june.csv" in told(NEWS["rejected"])[1]


def test_without_a_champion_before_the_lead_is_that_over_rivals() -> None:
    first = replace(NEWS["success"], gates=(BEATEN, gate("beats knn", 0.3, 0.0, True)))
    assert "auroc: +0.0200 or more against every rival" in told(first)[1]


def test_of_a_failure_only_stages_that_there_are_are_named() -> None:
    for word in (f"train@{PLANTED}", "secret@breast_cancer", f"train@breast_cancer-{PLANTED}"):
        body = told(replace(NEWS["failed"], reason=f"1 failed\n  {word}: broken"))[1]
        assert "@" not in body
    promotion = replace(NEWS["failed"], reason=f"promotion: {PLANTED}")
    assert "failed at the promotion;" in told(promotion)[1]


@pytest.mark.parametrize("outcome", ["no new rows", "waiting"])
def test_what_is_no_news_is_not_told(outcome: Any) -> None:
    quiet = replace(NEWS["drift"], decision=outcome, drift={"drifted": False, "findings": []})
    assert notice_of(quiet, "auroc", VARIANTS, "") is None
    assert notice_of(replace(quiet, drift=None), "auroc", VARIANTS, "") is None


def test_what_is_no_kind_of_notification_block_is_named_with_those_that_are(
    project: Path,
) -> None:
    with pytest.raises(
        ConfigError, match=r"retrain\.notify: slak-webhook/team: no kind .* email, .* slack-w"
    ):
        notices.load("slak-webhook/team")
    with pytest.raises(ConfigError, match="secret/team: no kind of notification block"):
        notices.load("secret/team")


@pytest.mark.parametrize("kind", sorted(notices.kinds()))
def test_every_kind_of_block_has_a_command_that_is_python(kind: str) -> None:
    python, option, code = shlex.split(notices.recipe(notices.kinds()[kind], "team"))
    assert (python, option) == ("python", "-c")
    compile(code, kind, "exec")


@pytest.mark.parametrize("name", ["slack-webhook/team", "custom-webhook/team", "email/ops"])
def test_the_docs_have_that_command(root: Path, name: str) -> None:
    kind, _, saved = name.partition("/")
    lines = (root / "docs/flows.md").read_text(encoding="utf-8").splitlines()
    assert notices.recipe(notices.kinds()[kind], saved) in lines


class Post(BaseHTTPRequestHandler):
    """Keeps what is posted, and answers as many times as it is told to with an error."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        broken = self.server.broken > 0  # type: ignore[attr-defined]
        self.server.broken -= broken  # type: ignore[attr-defined]
        self.server.got.put(body)  # type: ignore[attr-defined]
        self.send_response(503 if broken else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as one message needs (RFC 5321), and of its authentication PLAIN and LOGIN."""

    def handle(self) -> None:
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            self.server.said.append(line)  # type: ignore[attr-defined]
            match line.split()[0].upper():
                case "EHLO":
                    self.say("250-here\r\n250 AUTH PLAIN")
                case "AUTH":
                    self.say("235 welcome")
                case "DATA":
                    self.say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    mail = message_from_string("".join(lines), policy=policy.default)
                    self.server.got.put((mail["To"], mail["Subject"], mail.get_content().split()))  # type: ignore[attr-defined]
                    self.say("250 taken")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 well")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextlib.contextmanager
def served(server: socketserver.TCPServer) -> Iterator[Any]:
    """`server` in a thread; what it was sent is in its queue `got`."""
    server.got, server.said, server.broken = Queue(), [], 0  # type: ignore[attr-defined]
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def hook() -> Iterator[Any]:
    """An HTTP server that keeps what is posted."""
    with served(ThreadingHTTPServer(("127.0.0.1", 0), Post)) as server:
        yield server


@pytest.fixture
def post_office() -> Iterator[Any]:
    """An SMTP server that keeps what is mailed."""
    with served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)) as server:
        yield server


def webhook(port: int) -> CustomWebhookNotificationBlock:
    return CustomWebhookNotificationBlock(
        name="team",
        url=f"http://127.0.0.1:{port}/{{{{key}}}}",
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        secrets={"key": "an-address-s-key"},
    )


def mailbox(port: int, **more: Any) -> Email:
    addresses = {"sender": "ops@example.org", "to": ["ann@example.org", "bob@example.org"]}
    return Email(host="127.0.0.1", port=port, security="insecure", **addresses, **more)


def test_mail_goes_to_each_address_after_a_login(post_office: Any) -> None:
    mailbox(post_office.server_address[1], password="a:b@c/d %").notify("three\nlines\nof text", "subject")
    mail = [post_office.got.get(timeout=WAIT) for _ in range(2)]
    assert mail == [
        (f"{who}@example.org", "subject", ["three", "lines", "of", "text"]) for who in ("ann", "bob")
    ]
    (login,) = [line for line in post_office.said if line.startswith("AUTH PLAIN")]
    assert base64.b64decode(login.split()[-1]).decode() == "\0ops@example.org\0a:b@c/d %"


def test_the_password_of_a_mail_block_is_in_no_text_of_it() -> None:
    block = mailbox(25, password=PLANTED)
    assert PLANTED not in repr(block) + str(block) + block.model_dump_json()


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the real params.yaml."""
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    (tmp_path / "data/incoming/breast_cancer").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notify(project: Path, *names: str) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["retrain"]["notify"] = list(names)
    path.write_text(yaml.safe_dump(params))


@pytest.fixture
def deciding(monkeypatch: pytest.MonkeyPatch) -> Callable[[Decision], None]:
    """Have the retraining flow decide what is given."""
    monkeypatch.setattr(notices, "deliver", notices.deliver.with_options(retries=2, retry_delay_seconds=0))

    def decide(decision: Decision) -> None:
        monkeypatch.setattr(retraining, "decide", lambda *_: iter([decision]))

    return decide


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_each_decision_arrives_by_webhook_and_by_mail(
    project: Path, deciding: Callable[[Decision], None], hook: Any, post_office: Any
) -> None:
    webhook(hook.server_address[1]).save("team", overwrite=True)
    mailbox(post_office.server_address[1]).save("team", overwrite=True)
    notify(project, "custom-webhook/team", "email/team")
    for kind, decision in NEWS.items():
        deciding(decision)
        retrain("breast_cancer", return_state=True)
        posted = json.loads(hook.got.get(timeout=WAIT))
        mailed = [post_office.got.get(timeout=WAIT)[1:] for _ in range(2)]
        assert posted["subject"] == f"LatentOps: breast_cancer: {kind}"
        *lines, link = posted["body"].splitlines()
        assert lines == told(decision)[1].splitlines()[:-1]
        assert urlsplit(link).path.startswith("/runs/flow-run/")
        assert mailed == [(posted["subject"], posted["body"].split())] * 2
        assert PLANTED not in json.dumps([posted, mailed])
    assert PLANTED in LEDGER.read_text()
    deciding(Decision("breast_cancer", "no new rows", "no new file"))
    retrain("breast_cancer", return_state=True)
    assert hook.got.empty()
    assert post_office.got.empty()


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_value_of_a_bad_row_leaves_the_machine_in_no_notice(
    project: Path, monkeypatch: pytest.MonkeyPatch, hook: Any
) -> None:
    from latentops.config import load_params
    from latentops.data import sources

    monkeypatch.setattr(
        retraining,
        "conclude",
        lambda dataset, accepted, why, told, *_: Decision(dataset, "held", str(told), **told),
    )
    monkeypatch.setattr(retraining, "accept", lambda rows, dataset: rows.file.path.name)
    webhook(hook.server_address[1]).save("team", overwrite=True)
    notify(project, "custom-webhook/team")
    frame = sources.read_source(load_params().dataset("breast_cancer").source).whole().to_pandas()
    frame = frame.drop(columns=[".source", ".position"]).head(20).astype(object)
    frame.loc[:, frame.columns != "diagnosis"] *= 1.01
    frame.loc[0, "diagnosis"] = PLANTED
    folder = project / "data/incoming/breast_cancer"
    frame.to_csv(folder / "june.csv", index=False)
    frame.loc[:, "mean radius"] = PLANTED
    frame.to_csv(folder / "worse.csv", index=False)

    retrain("breast_cancer", return_state=True)

    posted = [json.loads(hook.got.get(timeout=WAIT)) for _ in range(2)]
    assert [each["subject"].rpartition(" ")[2] for each in posted] == ["rejected", "held"]
    assert "rejected worse.csv" in posted[0]["body"]
    assert "rows: 19 clean new, 1 bad" in posted[1]["body"]
    assert PLANTED in LEDGER.read_text()
    assert PLANTED not in json.dumps(posted)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_who_cannot_be_reached_is_named_and_changes_nothing_else(
    project: Path,
    deciding: Callable[[Decision], None],
    hook: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Mail) as closed:
        nobody = closed.server_address[1]
    webhook(nobody).save("gone", overwrite=True)
    mailbox(nobody).save("gone", overwrite=True)
    webhook(hook.server_address[1]).save("team", overwrite=True)
    notify(project, "custom-webhook/gone", "email/gone", "custom-webhook/team")
    hook.broken = 2
    deciding(NEWS["held"])
    assert retrain("breast_cancer", return_state=True).is_completed()
    assert [json.loads(hook.got.get(timeout=WAIT))["subject"] for _ in range(3)] == [
        "LatentOps: breast_cancer: held"
    ] * 3
    warned = [record.getMessage() for record in caplog.records if "got no notice" in record.getMessage()]
    assert warned == [
        f"{name} got no notice of LatentOps: breast_cancer: held"
        for name in ("custom-webhook/gone", "email/gone")
    ]
    assert "an-address-s-key" not in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_an_unknown_block_ends_the_flow_at_its_start_with_the_command_that_makes_it(
    project: Path, deciding: Callable[[Decision], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding(NEWS["held"])
    notify(project, "slack-webhook/nowhere")
    state = retrain("breast_cancer", return_state=True)
    assert state.is_failed()
    assert "retrain.notify: slack-webhook/nowhere: Prefect has no such block; make it: " in str(state.message)
    assert not LEDGER.exists()

    answers = {
        "host: ": "smtp.example.org",
        "sender: ": "a@example.org",
        "to: ": "b@example.org c@example.org",
    }
    monkeypatch.setattr("builtins.input", answers.__getitem__)
    monkeypatch.setattr(getpass, "getpass", lambda _: "https://hooks.slack.com/services/T0/B0/key")
    for name in ("slack-webhook/nowhere", "custom-webhook/nowhere", "email/nowhere"):
        with pytest.raises(ConfigError, match="Prefect has no such block; make it: ") as complaint:
            notices.load(name)
        *_, code = shlex.split(str(complaint.value).partition("make it: ")[2])
        exec(compile(code, name, "exec"), {})
        notices.load(name)
    assert isinstance(notices.load("slack-webhook/nowhere"), SlackWebhook)
    assert notices.load("email/nowhere").to == ["b@example.org", "c@example.org"]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_there_is_one_automation_for_the_blocks_and_none_for_none() -> None:
    from prefect.client.orchestration import get_client

    def watching() -> list[tuple[Any, bool, set[Any]]]:
        with get_client(sync_client=True) as client:
            found = client.read_automations_by_name(deployments.WATCH)
        return [(one.id, one.enabled, {each.block_document_id for each in one.actions}) for one in found]

    blocks = {name: webhook(9) for name in ("one", "two")}
    ids = {name: block.save(name, overwrite=True) for name, block in blocks.items()}
    deployments.watch([])
    assert watching() == []
    deployments.watch([blocks["one"]])
    ((first, _, blocks_told),) = watching()
    assert blocks_told == {ids["one"]}
    Automation.read(name=deployments.WATCH).disable()
    deployments.watch(blocks.values())
    deployments.watch(blocks.values())
    assert watching() == [(first, False, set(ids.values()))]
    deployments.watch([])
    assert watching() == []


@pytest.fixture
def server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prefect's server as `make services` starts it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}{os.pathsep}{root}")
    monkeypatch.setattr(services, "STARTS_WITHIN", 600)  # beside other tests
    with socketserver.TCPServer(("127.0.0.1", 0), Mail) as free:
        port = free.server_address[1]
    (service,) = [each for each in services.services(port, 0) if each.name == "prefect"]
    try:
        services.start_one(service)
        with temporary_settings({PREFECT_API_URL: service.environment["PREFECT_API_URL"]}):
            yield
    finally:
        services.stop_one(service.pid_file)


@pytest.mark.slow
def test_the_server_itself_tells_of_runs_that_failed_crashed_or_are_late(
    project: Path, server: None, hook: Any, post_office: Any
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed, Scheduled

    webhook(hook.server_address[1]).save("team")
    mailbox(post_office.server_address[1]).save("team")
    notify(project, "custom-webhook/team", "email/team")
    deployments.watch(notices.blocks().values())
    with pytest.raises(UnknownNameError):
        retrain("nowhere")
    with get_client(sync_client=True) as client:
        crashing = client.create_flow_run(retrain, name="crashing")
        client.set_flow_run_state(crashing.id, Crashed(message=PLANTED), force=True)
        client.create_flow_run(retrain, name="waiting", state=Scheduled(scheduled_time=LONG_AGO))
    posted = [json.loads(hook.got.get(timeout=120)) for _ in range(3)]
    mailed = [post_office.got.get(timeout=120) for _ in range(3 * 2)]
    assert {each["subject"].removeprefix("LatentOps: retrain: ") for each in posted} == {
        "failed",
        "crashed",
        "late",
    }
    assert all("/runs/flow-run/" in each["body"] for each in posted)
    assert PLANTED not in json.dumps([posted, mailed])
    assert any(words[:3] == ["crashing", "is", "crashed"] for _, _, words in mailed)


def test_without_a_server_the_link_is_the_reports_path() -> None:
    assert notices.link() == REPORT
