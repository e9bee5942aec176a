"""Tell people what a retraining came to, through the blocks of Prefect that `retrain.notify` names.

A notice is made of numbers and of the names of files, gates, stages and columns. Never of values out of rows:
the reasons of decisions stay behind, because they may quote some.
"""

import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode

from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import AbstractAppriseNotificationBlock, CustomWebhookNotificationBlock
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.utilities.dispatch import get_registry_for_type
from prefect.utilities.urls import url_for
from pydantic import Field, SecretStr

from latentops import stages
from latentops.config import load_params, params_path
from latentops.errors import ConfigError
from pipelines.decisions import Decision

REPORT = "reports/index.html"
RETRIES = (10, 60, 300)
"""Seconds before each further attempt to deliver a notice."""


class Email(AbstractAppriseNotificationBlock):
    """Sends notices as e-mail, over SMTP."""

    _block_type_name = "Email"
    _block_type_slug = "email"
    _description = "Sends notifications as e-mail over SMTP."

    host: str = Field(description="The SMTP server.", examples=["smtp.example.org"])
    port: int | None = Field(
        default=None, description="Its port; what is usual for its security, if not given."
    )
    security: Literal["starttls", "ssl", "insecure"] = Field(
        default="starttls", description="Of the connection."
    )
    user: str | None = Field(default=None, description="Who to log in as; the sender, if not given.")
    password: SecretStr | None = Field(default=None, description="Without one there is no login.")
    sender: str = Field(description="The address that notices come from.")
    to: list[str] = Field(min_length=1, description="The addresses that they go to.")

    def block_initialization(self) -> None:
        """Say to Apprise where to send."""
        login = ""
        if self.password is not None and self.password.get_secret_value():
            login = f"{_quoted(self.user or self.sender)}:{_quoted(self.password.get_secret_value())}@"
        port = f":{self.port}" if self.port else ""
        told = {
            "smtp": self.host,
            "from": self.sender,
            "to": ",".join(self.to),
            "mode": self.security,
            "format": "text",
        }
        self._start_apprise_client(SecretStr(f"mailtos://{login}{self.host}{port}?{urlencode(told)}"))


@dataclass(frozen=True)
class Notice:
    """What is sent: one line, and a text of a few."""

    subject: str
    body: str


def blocks() -> dict[str, NotificationBlock]:
    """The blocks of `retrain.notify`; `ConfigError` for one that isn't there says how to make it."""
    return {name: load(name) for name in load_params().retrain.notify}


def load(name: str) -> NotificationBlock:
    """The block saved as `name`, which is its kind/its name; `ConfigError` where there is none."""
    where = f"{params_path()}: retrain.notify: {name}"
    kind, _, saved = name.partition("/")
    known = kinds()
    if kind not in known:
        raise ConfigError(f"{where}: no kind of notification block; there are {', '.join(sorted(known))}")
    try:
        return cast(NotificationBlock, known[kind].load(saved))
    except ValueError as error:
        if "Unable to find block document" not in str(error):
            raise ConfigError(
                f"{where}: the block can't be used; save it anew: {recipe(known[kind], saved)}"
            ) from None
        raise ConfigError(
            f"{where}: Prefect has no such block; make it: {recipe(known[kind], saved)}"
        ) from None


def kinds() -> dict[str, type[NotificationBlock]]:
    """Every kind of notification block that Prefect knows of here, by its slug."""
    known: Iterable[type[Block]] = (get_registry_for_type(Block) or {}).values()
    return {
        each.get_block_type_slug(): each
        for each in known
        if issubclass(each, NotificationBlock) and each._block_type_name
    }


def recipe(kind: type[NotificationBlock], name: str) -> str:
    """The command that makes a block of that `kind`; it asks for what is needed, and for secrets unseen."""
    if kind is CustomWebhookNotificationBlock:  # it requires too little: it would send no text
        text = "{'text': '{{subject}}\\n{{body}}'}"
        asked = [f"name='{name}', url='{{{{url}}}}', secrets={{'url': getpass('url: ')}}, json_data={text}"]
    else:
        asked = [
            f"{field}=getpass('{field}: ')"
            if "SecretStr" in str(told.annotation)
            else f"{field}=input('{field}: ')" + (".split()" if "list" in str(told.annotation) else "")
            for field, told in kind.model_fields.items()
            if told.is_required() or "SecretStr" in str(told.annotation)
        ]
    of = f"from getpass import getpass; from {kind.__module__} import {kind.__name__}"
    made = f"{kind.__name__}({', '.join(asked)}).save('{name}', overwrite=True)"
    return f'python -c "import pipelines; {of}; {made}"'


def tell(decision: Decision) -> None:
    """Send every block of `retrain.notify` a notice of `decision`, if it is news.

    Belongs into a flow. What can't be delivered is logged, a line each, and changes nothing else.
    """
    params = load_params()
    notice = notice_of(decision, params.dataset(decision.dataset).primary, params.variants, link())
    if notice is None:
        return
    sent = {name: deliver.submit(name, notice.subject, notice.body) for name in params.retrain.notify}
    for name, future in sent.items():
        future.wait()
        if not future.state.is_completed():
            get_run_logger().warning("%s got no notice of %s", name, notice.subject)


def link() -> str:
    """Where to read on: the flow run's page, or the report where Prefect has no server."""
    return url_for("flow-run", flow_run.id) or REPORT if flow_run.id else REPORT


@task(
    task_run_name="notice to {name}",
    cache_policy=NO_CACHE,
    retries=len(RETRIES),
    retry_delay_seconds=list(RETRIES),
)
def deliver(name: str, subject: str, body: str) -> State[Any]:
    """Send a text through one block. Of an error only the kind is told: its words may hold a secret."""
    try:
        block = load(name)
        with block.raise_on_failure():
            block.notify(body, subject)  # type: ignore[unused-coroutine]  # here no loop runs
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", "")
        return Failed(message=f"{name}: not delivered: {type(error).__name__} {status}".rstrip())
    return Completed(message=f"{name}: delivered")


def notice_of(decision: Decision, primary: str, variants: Iterable[str], link: str) -> Notice | None:
    """The notice of `decision`; None where it is no news: nothing new, or waiting without drift."""
    told = headline(decision, variants)
    if told is None:
        return None
    kind, what = told
    lines = [what, *numbers(decision, primary), link]
    return Notice(f"LatentOps: {decision.dataset}: {kind}", "\n".join(lines))


def headline(decision: Decision, variants: Iterable[str]) -> tuple[str, str] | None:
    """What kind of news `decision` is, and what happened; None for no news."""
    match decision.decision:
        case "promoted":
            return "success", f"{decision.dataset}: promoted, version {decision.version} is live"
        case "held":
            live = "none is live" if decision.version is None else f"version {decision.version} stays live"
            return "held", f"{decision.dataset}: held, {live}"
        case "failed":
            return (
                "failed",
                f"{decision.dataset}: failed{failed_at(decision, variants)}; the next run goes on with it",
            )
        case "rejected":
            files = ", ".join(file["name"] for file in decision.files)
            return "rejected", f"{decision.dataset}: rejected {files}; ledger/decisions.jsonl says why"
        case "waiting" if decision.drift and decision.drift["drifted"]:
            return "drift", f"{decision.dataset}: drift, and no retraining yet"
    return None


def failed_at(decision: Decision, variants: Iterable[str]) -> str:
    """The stages that the reason of a failure names, of those that there are; of its other words none."""
    verbs = "|".join(each.name for each in pkgutil.iter_modules(stages.__path__))
    cells = "|".join(map(re.escape, variants))
    pattern = rf"(?<![\w@-])(?:{verbs})@{re.escape(decision.dataset)}(?:-(?:{cells}))?(?![\w@-])"
    named = list(dict.fromkeys(re.findall(pattern, decision.reason)))
    if decision.reason.startswith("promotion:"):
        named.append("the promotion")
    return f" at {', '.join(named)}" if named else ""


def numbers(decision: Decision, primary: str) -> list[str]:
    """The lines with the rows, with the lead or the gates that held, and with drift."""
    if decision.decision == "rejected":
        return []
    rows = decision.rows
    told = [f"rows: {rows['clean'] - rows['known']} clean new, {rows['bad']} bad"]
    held = [each for each in decision.gates if not each["passed"]]
    told += [f"held by {_measured(each)}" for each in held] if held else _lead(decision, primary)
    asked = next((each for each in decision.questions if each["asked"] == "drift"), None)
    if asked is not None and asked["value"] is not None:
        limit = "" if asked["limit"] is None else f", retrain.drift_alpha = {asked['limit']:g}"
        told.append(f"drift: smallest corrected p = {asked['value']:.2g}{_of(decision.drift)}{limit}")
    else:
        told.append("drift: not tested")
    return told


def _lead(decision: Decision, primary: str) -> list[str]:
    """The lead over the champion before; where there was none, what is sure of that over every rival."""
    values = {each["gate"]: each["value"] for each in decision.gates}
    if values.get("champion") is not None:
        return [f"{primary}: {values['champion']:+.4f} against the champion before"]
    rivals = [value for gate, value in values.items() if gate.startswith("beats ")]
    return [f"{primary}: {min(rivals):+.4f} or more against every rival"] if rivals else []


def _measured(gate: Mapping[str, Any]) -> str:
    value, limit = (None if gate[key] is None else f"{gate[key]:.4g}" for key in ("value", "limit"))
    return " ".join(filter(None, [gate["gate"], value and f"= {value}", limit and f"(limit {limit})"]))


def _of(drift: Mapping[str, Any] | None) -> str:
    """What has moved the most, where anything has."""
    found = drift["findings"] if drift and drift["drifted"] else []
    return f" ({min(found, key=lambda each: each['corrected'])['of']})" if found else ""


def _quoted(text: str) -> str:
    return quote(text, safe="")
