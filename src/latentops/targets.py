"""`DATASET=` and `VARIANT=` as names of DVC stages."""

from collections.abc import Collection, Sequence

from latentops.config import Params, nearest
from latentops.errors import UnknownNameError


def datasets(params: Params, names: Sequence[str] = ()) -> list[str]:
    """`names`, or every dataset of the DAG; `UnknownNameError` for one that the DAG doesn't span."""
    return _known("dataset", names, params.run.datasets, params.datasets)


def variants(params: Params, names: Sequence[str] = ()) -> list[str]:
    """`names`, or every variant of the DAG; `UnknownNameError` for one that the DAG doesn't span."""
    return _known("variant", names, params.run.variants, params.variants)


def targets(params: Params, dataset: str | None = None, variant: str | None = None) -> list[str]:
    """The last stages of the part of the DAG asked for; none means all of it.

    A dataset's part ends with its record. A variant's part ends with its evaluation, because a comparison
    needs every variant.
    """
    named = [dataset] if dataset else []
    if variant:
        (variant,) = variants(params, [variant])
        return [f"evaluate@{each}-{variant}" for each in datasets(params, named)]
    return [f"record@{each}" for each in datasets(params, named)] if dataset else []


def _known(what: str, names: Sequence[str], spanned: list[str], declared: Collection[str]) -> list[str]:
    for name in names:
        if name in spanned:
            continue
        if name in declared:
            raise UnknownNameError(
                f"{what} {name!r} is not part of the DAG: add it to run.{what}s in params.yaml"
            )
        raise UnknownNameError(f"unknown {what} {name!r}{nearest(name, spanned)}")
    return list(names) or list(spanned)
