"""Errors meant for a person: one line that says what was wrong, where, and what to do."""


class LatentOpsError(Exception):
    """Anything a user can mend; the command line shows its text without a traceback."""


class ConfigError(LatentOpsError):
    """`params.yaml` holds a key or a value that can't be used."""


class DataError(LatentOpsError):
    """A data file is missing, unreadable, or breaks what is expected of it."""


class UnknownNameError(LatentOpsError):
    """A dataset, variant, architecture or model was asked for that doesn't exist."""


class LikelihoodError(LatentOpsError):
    """A loss was asked to take data it isn't defined on."""


class RegistryError(LatentOpsError):
    """The model registry doesn't hold, or refuses, what was asked of it."""


class StoreError(RegistryError):
    """The store of runs and models doesn't answer, or takes nothing."""
