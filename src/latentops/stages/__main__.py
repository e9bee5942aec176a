"""`python -m latentops.stages STAGE ARGS [--debug]`: run one stage, as `dvc.yaml` does."""

import importlib
import inspect
import os
import pkgutil
import resource
import sys
import time
import traceback

from latentops import costs, stages
from latentops.errors import LatentOpsError, UnknownNameError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by libraries of linear algebra while they are imported. How many there are changes the bytes of what
a stage leaves, so the shell has no say in it; torch has `training.threads`."""


def run(name: str, *args: str) -> None:
    """Run stage `name` and write down what it cost.

    Raises `UnknownNameError` where there is no such stage, `LatentOpsError` for a wrong number of
    arguments, and whatever the stage raises.
    """
    known = stage_names()
    if name not in known:
        from latentops.config import nearest

        raise UnknownNameError(f"unknown stage {name!r}{nearest(name, known)}")
    os.environ |= dict.fromkeys(_THREADS, "1")
    began = time.perf_counter()
    stage = importlib.import_module(f"{stages.__name__}.{name}").run
    signature = inspect.signature(stage)
    try:
        signature.bind(*args)
    except TypeError:
        wanted = " ".join(parameter.upper() for parameter in signature.parameters) or "no argument"
        given = " ".join(args) or "none"
        raise LatentOpsError(f"stage {name} takes {wanted}, but was given {given}") from None
    stage(*args)
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    costs.write(
        f"{name}@{'-'.join(args)}" if args else name,
        time.perf_counter() - began,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * unit,
    )


def stage_names() -> list[str]:
    """Every stage there is: the public modules of this package."""
    modules = pkgutil.iter_modules(stages.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def main(argv: list[str]) -> int:
    """Exit status: 0, or 1 after one line on stderr that says what went wrong."""
    debug = "--debug" in argv or os.environ.get("LATENTOPS_DEBUG") == "1"
    words = [word for word in argv if word != "--debug"]
    try:
        if not words:
            raise LatentOpsError(f"which stage? known: {', '.join(stage_names())}")
        run(*words)
    except LatentOpsError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {error.filename or 'file system'}: {error.strerror or error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
