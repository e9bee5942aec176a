"""`run:`, what the DAG spans."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from latentops.config.settings import Settings


class Run(Settings):
    """What the DAG spans."""

    datasets: Annotated[list[str], Field(min_length=1)]
    variants: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (("datasets", self.datasets), ("variants", self.variants)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} names {', '.join(twice)} more than once")
        return self
