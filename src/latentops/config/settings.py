"""What every section of `params.yaml` is made of, and how one is checked."""

import difflib
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentops.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, lt=1)]
NAME = r"^\w[\w-]*$"
DatasetName = Annotated[str, Field(pattern=NAME)]
"""A part of paths, of stages' names and of models' names."""


class Settings(BaseModel):
    """A section of `params.yaml`: immutable, and closed to keys it doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'? known: …)`, to end an error about an unknown name."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f" ({guess}known: {', '.join(names)})"


S = TypeVar("S", bound=Settings)


def parse(model: type[S], value: object, where: str) -> S:
    """`value` as a `model`; `ConfigError` names each key that is unknown, missing or of a wrong value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "(top)"
            if problem["type"] == "extra_forbidden":
                text = f"unknown key{nearest(str(problem['loc'][-1]), _siblings(model, problem['loc'][:-1]))}"
            else:
                text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {text}")
        raise ConfigError("\n".join(lines)) from None


def _siblings(model: type[Settings], path: tuple[int | str, ...]) -> list[str]:
    """Keys known at `path` below `model`; map keys and list positions are stepped over."""
    current: type[Settings] = model
    for part in path:
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), current)
    return list(current.model_fields)
