"""What is expected, and what became of it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from great_expectations import expectations as gxe

SHOWN = 3  # offending rows named in an error


@dataclass(frozen=True)
class Check:
    """One expectation on a frame, the table's column that it is about, and what breaking it means."""

    expectation: gxe.Expectation
    column: str | None
    means: str
    level: Literal["row", "table"] = "table"


@dataclass(frozen=True)
class Outcome:
    """What became of a check: in how many lines of the frame it is broken, and in which."""

    check: Check
    success: bool
    unexpected: int
    lines: tuple[int, ...] = ()
    first: tuple[str, ...] = ()  # the first offending rows: `source[position] = value`

    def to_json(self) -> dict[str, Any]:
        """The outcome as the summary has it."""
        return {
            "name": self.check.expectation.expectation_type,
            "column": self.check.column,
            "level": self.check.level,
            "success": self.success,
            "unexpected": self.unexpected,
            "means": self.check.means,
        }

    def and_then(self, more: "Outcome") -> "Outcome":
        """The outcome on this frame and on a later one."""
        return replace(
            self,
            success=self.success and more.success,
            unexpected=self.unexpected + more.unexpected,
            lines=(),
            first=(self.first + more.first)[:SHOWN],
        )
