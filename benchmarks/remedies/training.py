"""Training that ends short of convergence: the schedule, clipping, and steps before patience counts."""

from collections.abc import Iterator

from benchmarks.remedies.study import Finding, samples, trained

WARNING = "training ends short of convergence"
VARIANTS = ("undercomplete", "variational", "adversarial")


def findings() -> Iterator[Finding]:
    """The squared error of digits on the stop rows, lower where training has come further."""
    steady = {"schedule": "constant"}
    cycle = {"schedule": "one_cycle", "warmup": 0.45}
    hasty = {"check_every": 10, "patience": 2}
    for variant in VARIANTS:
        number = f"squared error, {variant}"
        cosine = squared_error(variant)
        yield Finding(
            WARNING, number, "cosine, not a constant rate", squared_error(variant, **steady), cosine
        )
        yield Finding(WARNING, number, "one cycle, not cosine", cosine, squared_error(variant, **cycle))
        yield Finding(WARNING, number, "gradients clipped to 1", cosine, squared_error(variant, clip=1.0))
        yield Finding(
            WARNING,
            f"{number}, patience of two looks",
            "no patience used up before half of the steps",
            squared_error(variant, **hasty),
            squared_error(variant, **hasty, min_steps=350),
        )


def squared_error(variant: str, **training: object) -> list[float]:
    """Of a sample, in the mean over the stop rows: one number a seed."""
    stack = trained(variant, training=training)
    return [float(each.sum(axis=1).mean()) for each in stack.residuals(samples("digits", "stop"))]
