"""`evaluation:` and `floors:`, the judge's settings."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from latentops.config.settings import Count, Positive, Seed, Settings, Share


class Probe(Settings):
    """Multinomial logistic regression on standardised codes; the strength is chosen on `stop`."""

    strengths: Annotated[list[Positive], Field(min_length=1)]


class Knn(Settings):
    """A vote of the nearest training codes, all or a fixed random draw of `reference` of them."""

    neighbours: Count
    reference: Count


class FewLabels(Settings):
    """Probes that learn from `labels` rows of each class, `draws` times; the probe's strengths are tried."""

    labels: list[Annotated[int, Field(ge=2)]]
    draws: Count
    seed: Seed

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: each number once")
        return self


class Clustering(Settings):
    """k-means on the test rows' codes: the best of so many `starts`."""

    starts: Count


class Anomaly(Settings):
    """Scores from the code, and the false-alarm rate that thresholds promise."""

    neighbours: Count
    reference: Count
    alpha: Annotated[float, Field(gt=0, lt=1)]


class Corruptions(Settings):
    """Levels at which every variant meets each corruption, from weak to strong.

    Of `gaussian` the noise's deviation over the data's, of the others the share of values that are replaced.
    """

    gaussian: Annotated[list[Positive], Field(min_length=1)]
    masking: Annotated[list[Share], Field(min_length=1)]
    salt_and_pepper: Annotated[list[Share], Field(min_length=1)]
    replace: Annotated[list[Share], Field(min_length=1)]
    drop: Annotated[list[Share], Field(min_length=1)]

    @model_validator(mode="after")
    def _levels_rise(self) -> Self:
        for name, levels in self:
            if list(levels) != sorted(set(levels)):
                raise ValueError(f"{name}: levels must rise, each above the last")
        return self


class Evaluation(Settings):
    """The judge's settings, the same for every variant and floor."""

    probe: Probe
    knn: Knn
    few_labels: FewLabels
    clustering: Clustering
    anomaly: Anomaly
    denoising: Corruptions


class Floors(Settings):
    """What every code has to be held against."""

    trees: Count
