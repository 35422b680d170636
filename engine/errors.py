"""Every error that modernrank raises on purpose.

    ModernRankError
    ├── InputError (also a ValueError)   what was asked or given cannot be used
    ├── ArtifactError                    an artifact or a checkpoint is missing, damaged or of the wrong kind
    ├── ProviderError                    the execution provider that was asked for cannot run
    └── ProfileError (also InputError)   a shape that no optimisation profile of an engine takes

A message says three things: what was asked, what there is, and what to change.
"""


class ModernRankError(Exception):
    """The root: catch it to catch whatever modernrank refuses."""


class InputError(ModernRankError, ValueError):
    """An argument, a pair or a line of input cannot be used as it is."""


class ArtifactError(ModernRankError):
    """An artifact or a checkpoint is missing, damaged, too new or of the wrong kind."""


class ProviderError(ModernRankError):
    """The provider that was asked for is not installed, or is not the one that would run."""


class ProfileError(InputError):
    """A pair or a batch lies outside every optimisation profile, or profiles contradict each other."""


class TruncationWarning(UserWarning):
    """Pairs were longer than ``max_length`` and were cut; the message says how many and by how much."""
