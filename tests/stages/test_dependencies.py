"""`dvc.yaml` names with each stage the parts of `config/` that define what it reads, and no other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml

from latentops.config import Params, Settings

ROOT = Path(__file__).parents[2]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
FOLDER = "src/latentops/config"
READ_BACK = {"evaluate": {f"{FOLDER}/architectures.py"}}
"""Read from what an earlier stage left, not from `params.yaml`: the sizes of the model that is judged."""


def sections(annotation: Any) -> set[type[Settings]]:
    """Every section that a value of this type is made of."""
    if not (isinstance(annotation, type) and issubclass(annotation, Settings)):
        return set().union(*(sections(each) for each in get_args(annotation)))
    fields = (field.annotation for field in annotation.model_fields.values())
    return {annotation}.union(*(sections(each) for each in fields))


def defining(key: str) -> set[str]:
    """The files that say what `key` of `params.yaml` may be: of the sections on its way and all below it."""
    annotation: Any = Params
    on_the_way: set[type[Settings]] = set()
    for name in re.sub(r"\$\{.*?\}", "any", key).split("."):
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            annotation = annotation.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            on_the_way.add(annotation)
    files = {sys.modules[each.__module__].__file__ for each in on_the_way | sections(annotation)}
    return {str(Path(file).relative_to(ROOT)) for file in files if file is not None}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_settings_that_it_reads(stage: str) -> None:
    wanted = set().union(*(defining(key) for key in STAGES[stage]["params"]))
    wanted |= {f"{FOLDER}/settings.py"} | READ_BACK.get(stage, set())
    assert {dep for dep in STAGES[stage]["deps"] if dep.startswith(FOLDER)} == wanted


@pytest.mark.parametrize(
    ("part", "untouched"),
    [
        ("evaluation", {"ingest", "validate", "prepare", "train"}),
        ("training", {"ingest", "validate", "prepare"}),
        ("comparison", set(STAGES) - {"compare", "report"}),
        ("retrain", set(STAGES)),
        ("__init__", set(STAGES)),
    ],
)
def test_a_new_key_reruns_no_stage_that_does_not_read_it(part: str, untouched: set[str]) -> None:
    file = f"{FOLDER}/{part}.py"
    assert (ROOT / file).exists()
    assert {name for name, stage in STAGES.items() if file in stage["deps"]}.isdisjoint(untouched)


def test_stages_without_a_model_to_run_do_not_load_torch() -> None:
    """It takes more than a second, which is longer than most of them work."""
    for stage in ("ingest", "prepare", "compare", "record", "report"):
        code = f"import sys, latentops.stages.{stage}; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, stage
