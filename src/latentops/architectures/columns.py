"""The entries of a table's row that belong together: a category's indicators, a number and its flag."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Columns:
    """How columns lie in rows `[..., entries]`.

    `widths` are their entries one after the other: 1 of a number, k indicators of k categories. Of the
    numbers in `optional`, by their place among the columns, a flag says whether it is there; the flags follow
    at the row's end, in that order.
    """

    widths: tuple[int, ...]
    optional: tuple[int, ...] = ()

    @property
    def entries(self) -> int:
        """Width of a row."""
        return sum(self.widths) + len(self.optional)

    def split(self, rows: Tensor) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Each column's entries, and the flags by the column that they are of."""
        parts = torch.split(rows, [*self.widths, *(1 for _ in self.optional)], dim=-1)
        flags = dict(zip(self.optional, parts[len(self.widths) :], strict=True))
        return list(parts[: len(self.widths)]), flags

    def join(self, parts: Sequence[Tensor], flags: dict[int, Tensor]) -> Float[Tensor, "... entries"]:
        """Rows of such parts."""
        return torch.cat([*parts, *(flags[at] for at in self.optional)], dim=-1)

    def present(self, rows: Float[Tensor, "... entries"]) -> Float[Tensor, "... entries"]:
        """1 where an entry says something of a value that is there, else 0; flags say nothing of one."""
        parts, flags = self.split(rows)
        known = [
            part.sum(-1, keepdim=True).expand_as(part) if width > 1 else flags.get(at, torch.ones_like(part))
            for at, (width, part) in enumerate(zip(self.widths, parts, strict=True))
        ]
        return self.join(known, {at: torch.zeros_like(flag) for at, flag in flags.items()})

    def seen(self, rows: Float[Tensor, "... entries"]) -> Float[Tensor, "... entries"]:
        """The rows with 0 for every number that isn't there, whatever stood in its place."""
        parts, flags = self.split(rows)
        return self.join([part * flags[at] if at in flags else part for at, part in enumerate(parts)], flags)

    def shared(self, rows: Float[Tensor, "... entries"]) -> Float[Tensor, "... entries"]:
        """What stands in a column's first entry, in all of them and in its flag."""
        parts, _ = self.split(rows)
        first = [part[..., :1] for part in parts]
        return self.join(
            [each.expand_as(part) for each, part in zip(first, parts, strict=True)],
            {at: first[at] for at in self.optional},
        )
