"""Whether a stack is trained at once, a member after another, or in several processes.

None of them changes a member's bytes, so the fastest is taken. Which that is was measured by
`benchmarks/rules.py` into `rules.json`; nothing is timed while training.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, Literal

from latentops.config import ArchitectureName

RULES = Path(__file__).with_name("rules.json")

Way = Literal["stack", "in turns", "processes"]


def way(
    architecture: ArchitectureName, parameters: int, values: int, members: int, steps: int, processes: int
) -> Way:
    """The fastest way by the nearest model that was measured, in at most so many `processes`.

    `parameters` are those of one member, `values` those of a sample. A lone member, which only the rows of
    its batches can be shared of, is trained in as many processes as there may be.
    """
    if members == 1:
        return "processes" if processes > 1 else "stack"
    rules = _rules()
    model = (math.log(parameters), math.log(values))
    alike = [row for row in rules["rows"] if row["architecture"] == architecture]
    nearest = min(
        alike, key=lambda row: math.dist(model, (math.log(row["parameters"]), math.log(row["values"])))
    )
    stack = nearest["step_seconds"] * steps * members / rules["members"]
    seconds: dict[Way, float] = {"stack": stack, "in turns": stack * nearest["turns_over_stack"]}
    if processes > 1:
        share = rules["processes"] / min(processes, members)
        seconds["processes"] = rules["start_seconds"] + stack * nearest["processes_over_stack"] * share
    return min(seconds, key=lambda each: seconds[each])


@cache
def _rules() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RULES.read_text(encoding="utf-8"))
    return found
