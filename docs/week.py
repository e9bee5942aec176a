"""A week of the retraining schedule in miniature, written into `docs/week.md`: `python docs/week.py`.

In a clone of HEAD the services of `make services` run, with the schedule once a minute. Each "day" a file is
put where new rows come in, and the script waits for what the schedule decides about it. In the end it holds
the ledger, the champion and the notices against what the policy says, and fails where they differ.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from latentops import atomic
from latentops.cli import guard
from latentops.config import load_params
from latentops.data import sources
from latentops.errors import LatentOpsError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/week.md"
START, END = "<!-- week:start -->\n", "<!-- week:end -->"
DATASET = "digits"
VARIANTS = ("sparse", "adversarial")
POLICY = {
    "cron": "* * * * *",
    "min_new_rows": 30,
    "drift_alpha": 0.01,
    "max_age_days": None,
    "cooldown_hours": 0,
    "approval": False,
}
PATIENCE = 1800  # seconds, for what one day brings

Rows = dict[str, Any]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Day:
    """What comes in on a day, in words and as a file's bytes if there is one, and what has to follow."""

    name: str
    arrives: str
    content: bytes | None
    expected: Callable[[Entry], bool]
    """Whether a line of the ledger about it is what the policy says."""


def days() -> list[Day]:
    """The seven of them, of digits that are jittered so that none is known already."""
    table = sources.read_source(load_params().dataset(DATASET).source).whole()
    rows = [{"digit": row["digit"], "pixels": row["pixels"]} for row in table.to_pylist()]
    monday = jittered(rows, 40, 1)
    bad = jittered(rows, 40, 2)
    for at in range(6):
        bad[at]["pixels"][at] = 99.0
    inverted = [{**row, "pixels": [16.0 - each for each in row["pixels"]]} for row in jittered(rows, 20, 3)]
    return [
        Day("Monday", "40 clean rows", parquet(monday), retrained("40 clean new rows")),
        Day(
            "Tuesday",
            "40 rows, of which 6 have a pixel of 99",
            parquet(bad),
            lambda entry: retrained("34 clean new rows")(entry) and entry["rows"]["bad"] == 6,
        ),
        Day(
            "Wednesday",
            "20 rows with black and white exchanged",
            parquet(inverted),
            lambda entry: retrained("drift: ")(entry) and entry["drift"]["drifted"],
        ),
        Day(
            "Thursday",
            "Monday's rows in another file",
            parquet(monday[::-1]),
            lambda entry: (entry["decision"], entry["rows"]["known"]) == ("no new rows", 40),
        ),
        Day("Friday", "nothing", None, lambda entry: entry["reason"] == "no new file"),
        Day(
            "Saturday",
            "the first half of a Parquet file",
            parquet(jittered(rows, 40, 4))[:2000],
            lambda entry: entry["decision"] == "rejected",
        ),
        Day("Sunday", "40 clean rows", parquet(jittered(rows, 40, 5)), retrained("40 clean new rows")),
    ]


def retrained(why: str) -> Callable[[Entry], bool]:
    """Whether a line is of a retraining for that reason, promoted if every gate was passed, else held."""

    def holds(entry: Entry) -> bool:
        passed = all(gate["passed"] for gate in entry["gates"])
        asked = {each["asked"]: each["met"] for each in entry["questions"]}
        reason_met = asked["drift"] and not asked["new rows"] if why == "drift: " else asked["new rows"]
        return bool(reason_met) and entry["decision"] == ("promoted" if passed else "held")

    return holds


def jittered(rows: Sequence[Rows], count: int, seed: int) -> list[Rows]:
    """`count` rows drawn at random, every pixel off by at most one."""
    random = np.random.default_rng(seed)
    found = []
    for at in random.choice(len(rows), count, replace=False):
        pixels = np.asarray(rows[at]["pixels"]) + random.integers(-1, 2, size=64)
        found.append({"digit": rows[at]["digit"], "pixels": np.clip(pixels, 0, 16).tolist()})
    return found


def parquet(rows: Sequence[Rows]) -> bytes:
    """A Parquet file of `rows`."""
    kept = pa.BufferOutputStream()
    pixels = pa.array([row["pixels"] for row in rows], pa.list_(pa.float32(), 64))
    pq.write_table(pa.table({"digit": [row["digit"] for row in rows], "pixels": pixels}), kept)
    return kept.getvalue().to_pybytes()


class Project:
    """A clone of HEAD, with a policy for the week."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "project"
        self.notices: list[str] = []
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.path)], check=True)
        self.edit(lambda params: params["run"].update(datasets=[DATASET], variants=list(VARIANTS)))
        self.edit(lambda params: params["retrain"].update(POLICY))
        self.python("dvc", "remote", "add", "--quiet", "--default", "store", str(folder / "store"))
        self.git("commit", "--quiet", "--all", "--message", "A week's policy")

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change `params.yaml`."""
        path = self.path / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(params)
        atomic.write_text(path, yaml.safe_dump(params, sort_keys=False))

    def git(self, *words: str) -> str:
        """What git prints."""
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        command = ["git", *who, *words]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True, text=True).stdout

    def python(self, *words: str, **environment: str) -> str:
        """What `python -m WORDS` prints, with the clone's own code; `LatentOpsError` with its last words."""
        own = {"PYTHONPATH": f"{self.path / 'src'}{os.pathsep}{self.path}", "OMP_NUM_THREADS": "1"}
        own |= {"PREFECT_HOME": str(self.path / "var/prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.path,
            env={**os.environ, **own, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines() or [f"status {ended.returncode}"]
            raise LatentOpsError(f"{' '.join(words[:3])}: {said[-1]}")
        return ended.stdout

    def ledger(self) -> list[Entry]:
        """The lines of the decisions' ledger."""
        path = self.path / "ledger/decisions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def live(self) -> int:
        """The version that is champion, by the promotions' ledger."""
        lines = (self.path / "ledger/promotions.jsonl").read_text().splitlines()
        moves = [json.loads(line) for line in lines]
        return int([each for each in moves if each["event"] in ("promote", "rollback")][-1]["version"])

    def await_day(self, day: Day) -> tuple[list[Entry], list[str]]:
        """Let a day's file come in, and wait for what is decided: the ledger's lines, and the notices."""
        before, heard = len(self.ledger()), len(self.notices)
        if day.content is not None:
            place = self.path / "data/incoming" / DATASET / f"{day.name.lower()}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".part").write_bytes(day.content)
            place.with_suffix(".part").rename(place)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            lines = self.ledger()[before:]
            named = [each for each in lines if (day.content is None) == (not each["files"])]
            if named:
                time.sleep(5)  # for its notice
                return named, self.notices[heard:]
            time.sleep(1)
        raise LatentOpsError(f"{day.name}: nothing was decided within {PATIENCE} s")


@contextmanager
def receiver(notices: list[str]) -> Iterator[str]:
    """The address of a webhook on loopback that keeps the subjects of what it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            notices.append(str(told["text"]).splitlines()[0])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def services(project: Project, webhook: str) -> Iterator[None]:
    """`make services` on free ports, with a block that tells `webhook`; stopped in the end."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    api = f"http://127.0.0.1:{ports[0]}/api"
    start = ("pipelines.services", "start", "--prefect-port", ports[0], "--mlflow-port", ports[1])
    try:
        project.python(*start)
        make = (
            "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
            f"Block(name='week', url='{webhook}', json_data={{'text': '{{{{subject}}}}'}}).save('week')"
        )
        subprocess.run([sys.executable, "-c", make], env={**os.environ, "PREFECT_API_URL": api}, check=True)
        project.edit(lambda params: params["retrain"].update(notify=["custom-webhook/week"]))
        yield
    finally:
        project.python("pipelines.services", "stop")


def week(project: Project) -> list[str]:
    """Play the seven days; the lines of a table of them."""
    project.python("dvc", "repro", "--quiet")
    project.python("latentops.cli", "promote", DATASET, "--force", "--reason", "the week's first champion")
    lines = [
        "| day | arrives | decided | smallest p of drift | live | notice |",
        "|---|---|---|--:|--:|---|",
    ]
    with receiver(project.notices) as webhook, services(project, webhook):
        for day in days():
            entries, notices = project.await_day(day)
            if not any(map(day.expected, entries)):
                raise LatentOpsError(f"{day.name}: not what the policy says: {entries}")
            entry = next(filter(day.expected, entries))
            found = entry["drift"]["findings"] if entry["drift"] else []
            surest = f"{min(each['corrected'] for each in found):.2g}" if found else "–"
            decided = f"**{entry['decision']}**: {shortened(entry)}"
            cells = (day.name, day.arrives, decided, surest, str(project.live()), "; ".join(notices) or "–")
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def shortened(entry: Entry) -> str:
    """Why, without the figures of every gate, in a table's cell."""
    why = [each["asked"] for each in entry["questions"] if each["met"] and each["asked"] != "cooldown, hours"]
    gates = [gate["gate"] for gate in entry["gates"] if not gate["passed"]]
    parts = [f"retrained for {', '.join(why)}"] if why else [entry["reason"]]
    parts += [f"held by {', '.join(gates)}"] if gates else []
    return "; ".join(parts).replace("|", "\\|").replace("_", "\\_")


def main() -> None:
    """Play the week and write the page's table."""
    with tempfile.TemporaryDirectory(prefix="latentops-week-") as scratch:
        project = Project(Path(scratch))
        lines = week(project)
        branch = project.git("for-each-ref", "--format=%(refname:short)", "refs/heads/retrain").split()
        commits = project.git("rev-list", "--count", f"HEAD..{branch[-1]}").strip()
        verified = project.python("latentops.cli", "verify", DATASET).strip().splitlines()[-1]
        lines += ["", f"`{branch[-1]}` has {commits} commits; `latentops verify {DATASET}` ends: {verified}"]
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(START)[0], page.partition(END)[2]
    atomic.write_text(PAGE, f"{before}{START}{chr(10).join(lines)}\n{END}{after}")


if __name__ == "__main__":
    guard(main)
