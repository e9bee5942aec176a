"""`training:`, how models are trained."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from latentops.config.architectures import ArchitectureName
from latentops.config.settings import Count, Fraction, Positive, Seed, Settings

Precision = Literal["float32", "bf16"]


class Budget(Settings):
    """Steps of a stack, and the learning rate at its schedule's peak."""

    steps: Count
    learning_rate: Positive


class Training(Settings):
    """How every stack of members is trained."""

    seeds: Annotated[list[Seed], Field(min_length=2)]
    budget: dict[ArchitectureName, Budget]
    batch_size: Annotated[int, Field(gt=0, multiple_of=32)]
    buckets: Count
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["cosine", "constant", "one_cycle"]
    warmup: Fraction
    clip: Annotated[float, Field(ge=0)] = 0.0
    check_every: Count
    look_rows: Annotated[int, Field(gt=0, multiple_of=32)]
    patience: Count
    min_steps: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    threads: Count
    processes: Count
    precision: Precision
    device: Literal["cpu", "cuda", "auto"]

    @model_validator(mode="after")
    def _every_architecture_has_a_budget(self) -> Self:
        missing = [name for name in get_args(ArchitectureName) if name not in self.budget]
        if missing:
            raise ValueError(f"budget has no entry for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _a_cycle_rises_and_falls(self) -> Self:
        if self.schedule == "one_cycle" and not 0 < self.warmup <= 0.5:
            raise ValueError(
                "schedule: one_cycle rises over the warmup share and falls for as long: set warmup above 0 "
                "and up to 0.5, such as 0.45"
            )
        return self

    @model_validator(mode="after")
    def _one_process_checkpoints(self) -> Self:
        if self.checkpoint_every and self.processes > 1:
            raise ValueError("checkpoint_every goes with processes: 1; set it to 0, or train in one process")
        return self

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ from one another")
        return self
