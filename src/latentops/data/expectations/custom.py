"""Expectations that Great Expectations doesn't have, or that its data docs tell in other words."""

from typing import Any, ClassVar

from great_expectations import expectations as gxe
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer


class _Told:
    """Data docs say what is expected in `told`, where `$max_value` and `$min_value` stand for the limits."""

    told: ClassVar[str]

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **_: Any
    ) -> Any:
        text = {"template": cls.told, "params": dict(configuration.kwargs)}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=text)]


class ExpectRowsToBeReadable(_Told, gxe.ExpectColumnValuesToBeNull):
    """Expect that nothing kept a row from being read."""

    told: ClassVar[str] = "must be empty: nothing kept the row from being read."


class ExpectColumnValuesToBeFinite(_Told, gxe.ExpectColumnValuesToBeBetween):
    """Expect numbers that are not infinite."""

    told: ClassVar[str] = "values must be finite, where they are not missing."


class ExpectColumnValuesToBeMetFirst(_Told, gxe.ExpectColumnValuesToBeBetween):
    """Expect a value that no earlier row has; the column says of each row whether one does (1) or not (0)."""

    told: ClassVar[str] = "no earlier row may have the same."


class ExpectQuarantineToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect few rows to be set aside."""

    told: ClassVar[str] = "share of the rows that is set aside must be at most $max_value."


class ExpectCleanRowsToBeEnough(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect so many clean rows at least."""

    told: ClassVar[str] = "clean rows must be at least $min_value."


class ExpectCleanRowsToBeFew(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect so many clean rows at most."""

    told: ClassVar[str] = "clean rows must be at most $max_value."


class ExpectClassShareToBeLarge(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect a class to have its share of the rows."""

    told: ClassVar[str] = "share of the clean rows of this class must be at least $min_value."


class ExpectColumnMissingShareToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect few of a column's values to be missing."""

    told: ClassVar[str] = "share of the values that is missing must be at most $max_value."


class ExpectColumnDriftToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect a column's distribution to be near that of the version accepted last."""

    told: ClassVar[str] = "distance from the version accepted last must be at most $max_value (of 1)."


class ExpectColumnLeakToBeSmall(_Told, gxe.ExpectColumnMaxToBeBetween):
    """Expect that no column predicts the label alone."""

    told: ClassVar[str] = (
        "must predict the label alone no better than $max_value (0 is guessing, 1 is always right)."
    )
