"""What it takes to start something, in the process that this is run in; one line of JSON.

    python -m benchmarks.starting nothing | import MODULE | command WORD… | stage STAGE ARGUMENT…

CPU seconds go to the start, which is Python's own and all imports, or to the work, which a stage alone has:
what it imports only once it runs counts as its start too.
"""

import builtins
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

HEAVY = (
    "altair",
    "fastapi",
    "great_expectations",
    "jinja2",
    "matplotlib",
    "mlflow",
    "networkx",
    "numpy",
    "pandas",
    "prefect",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "sympy",
    "torch",
)
"""Libraries worth naming where they are loaded."""


class Imports:
    """CPU seconds spent on imports since `watch`; one within another is counted once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.inside = False

    def watch(self) -> None:
        """Count from now on, in the whole process."""
        builtins.__import__ = self.counted(builtins.__import__)
        importlib.import_module = self.counted(importlib.import_module)

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, with its time added to ours."""

        def importing(*args: Any, **keywords: Any) -> Any:
            if self.inside:
                return call(*args, **keywords)
            self.inside, began = True, time.process_time()
            try:
                return call(*args, **keywords)
            finally:
                self.inside = False
                self.seconds += time.process_time() - began

        return importing


def measure(kind: str, *words: str) -> dict[str, Any]:
    """Do what is asked, and say what it took."""
    began, imports = time.process_time(), Imports()
    if kind == "import":
        importlib.import_module(*words)
    elif kind == "command":
        from latentops import cli

        sys.argv = ["latentops", *words]
        try:
            cli.app()
        except SystemExit as ended:
            if ended.code:
                raise
    elif kind == "stage":
        imports.watch()
        from latentops.stages.__main__ import run

        run(*words)
    elif kind != "nothing":
        raise ValueError(kind)
    spent = time.process_time()
    work = spent - began - imports.seconds if kind == "stage" else 0.0
    libraries = [name for name in HEAVY if name in sys.modules]
    from benchmarks.contestants.protocol import peak_bytes

    return {"start": spent - work, "work": work, "peak_bytes": peak_bytes(), "libraries": libraries}


if __name__ == "__main__":
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answer:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is run may print
        answer.write(json.dumps(measure(*sys.argv[1:])))
