"""Optimisation profiles: the shapes that an engine takes, and runs shaped for them. Pure functions, no GPU needed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modernrank.artifact.manifest import Profile
from modernrank.batching.packing import PackingLimits
from modernrank.errors import ProfileError

STEP = 64  # tokens; widths are multiples of it, so that few shapes occur: it is the block of the sliding layers
# Most pairs in a row of an engine: pooling more slots than a row has costs next to nothing (0.02 % of the operations).
SLOTS = 32
# Runs of at most so many tokens spend more time in launching kernels than in them: their shapes are rounded up to a
# few, each of which becomes a CUDA graph.
GRAPH_TOKENS = 4096
# Pairs of a window on GPUs: a few large runs, short enough that tokenising the next hides behind them.
TOKENISED_AHEAD = 1024
_SHAPE = re.compile(r"(\d+)x(\d+)")


def parse_profile(text: str) -> Profile:
    """A profile as it is written on the command line: ``NAME=ROWSxTOKENS``, or least, best and most by colons.

    One shape alone is the most: the least is one row of STEP tokens, the best an eighth of the rows. Two are the best
    and the most.

    >>> print(parse_profile("short=64x512"))
    short=1x64:8x512:64x512
    >>> print(parse_profile("long=1x576:1x2048:4x8192"))
    long=1x576:1x2048:4x8192

    Raises:
        ProfileError: it is not of this form, or the three shapes do not grow.
    """
    name, _, shapes = text.partition("=")
    found = [_SHAPE.fullmatch(shape) for shape in shapes.split(":")]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or len(found) > 3 or not all(found):
        raise ProfileError(
            f"profile {text!r} is not NAME=ROWSxTOKENS[:ROWSxTOKENS[:ROWSxTOKENS]], such as short=1x64:8x512:64x512"
        )
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    if len(pairs) == 1:
        pairs.insert(0, (max(1, pairs[0][0] // 8), pairs[0][1]))
    if len(pairs) == 2:
        pairs.insert(0, (1, min(STEP, pairs[0][1])))
    profile = Profile(name, [rows for rows, _ in pairs], [tokens for _, tokens in pairs])
    _check(profile)
    return profile


def check_profiles(profiles: Sequence[Profile], longest: int) -> None:
    """Refuse profiles that one engine cannot have.

    Args:
        profiles: in any order.
        longest: tokens of the longest pair that the model takes.

    Raises:
        ProfileError: none, two of one name, two that take the same shape, or one above ``longest``.
    """
    if not profiles:
        raise ProfileError("there is no profile; give at least one, such as short=64x512")
    for profile in profiles:
        _check(profile)
        if profile.tokens[2] > longest:
            raise ProfileError(f"profile {profile} is longer than the model's {longest} tokens; lower it")
    for a, b in itertools.combinations(profiles, 2):
        if a.name == b.name:
            raise ProfileError(f"two profiles are called {a.name!r}; give them different names")
        if _overlap(a.rows, b.rows) and _overlap(a.tokens, b.tokens):
            raise ProfileError(
                f"profiles {a} and {b} both take {max(a.rows[0], b.rows[0])}x{max(a.tokens[0], b.tokens[0])}; "
                "let one begin where the other ends"
            )


def default_profiles(longest: int) -> list[Profile]:
    """Short contexts of up to 64 x 512, long ones of up to 4 x 8,192, as far as the model goes.

    >>> [str(profile) for profile in default_profiles(8192)]
    ['short=1x64:16x512:64x512', 'long=1x576:2x2048:4x8192']
    """
    short = min(512, longest)
    profiles = [Profile("short", [1, 16, 64], [min(STEP, short), short, short])]
    if longest >= 512 + STEP:
        profiles.append(Profile("long", [1, 2, 4], [512 + STEP, max(512 + STEP, min(2048, longest)), longest]))
    return profiles


def fit(profiles: Sequence[Profile], rows: int, tokens: int) -> int:
    """The index of the narrowest profile that takes ``[rows, tokens]``, with padding up to its least where it must.

    Raises:
        ProfileError: none does; it names them all.
    """
    fitting = [i for i, p in enumerate(profiles) if rows <= p.rows[2] and tokens <= p.tokens[2]]
    if not fitting:
        raise ProfileError(
            f"no profile takes {rows} rows of {tokens} tokens; the engine has {', '.join(map(str, profiles))}. "
            "Score shorter pairs (max_length=..), or build an engine with a profile for them: modernrank tensorrt"
        )
    return min(fitting, key=lambda i: profiles[i].tokens[2])


def rounded(profile: Profile, rows: int, tokens: int) -> tuple[int, int]:
    """The shape that is run for ``[rows, tokens]``: a width in STEPs, and for small runs one of a few row counts.

    >>> rounded(default_profiles(8192)[0], rows=5, tokens=100)
    (6, 128)
    """
    tokens = min(max(-(-tokens // STEP) * STEP, profile.tokens[0]), profile.tokens[2])
    if rows * tokens <= GRAPH_TOKENS:
        rows = next(count for count in _row_counts() if count >= rows)
    return min(max(rows, profile.rows[0]), profile.rows[2]), tokens


def _row_counts() -> itertools.chain[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ..: at most a third of the rows are added."""
    return itertools.chain([1, 2], (count << power for power in itertools.count() for count in (3, 4)))


@dataclass(frozen=True)
class ProfileLimits(PackingLimits):
    """Packing for an engine: rows of several pairs, as many and as wide as its profiles take.

    A run is as wide as its longest pair needs, or wider, up to the best width of its profile, where more pairs wait
    than the profile's rows would hold.
    """

    profiles: tuple[Profile, ...] = ()

    def shape(self, longest: int, waiting: int) -> tuple[int, int]:
        """See ``PackingLimits.shape``."""
        profile = self.profiles[fit(self.profiles, 1, longest)]
        wanted = max(longest, min(-(-waiting // profile.rows[2]), profile.tokens[1]))
        _, width = rounded(profile, 1, wanted)
        return width, profile.rows[2]


def limits_of(profiles: Sequence[Profile], slots: int, streams: int) -> ProfileLimits:
    """What a session of an engine with these profiles wants of its batches."""
    most = max(profile.rows[2] * profile.tokens[2] for profile in profiles)
    return ProfileLimits(
        tokens_per_run=most,
        pairs_per_row=slots,
        minimum_fill=0.0,
        streams=streams,
        tokens_per_stream=most,
        serial_share=1.0,  # a lane has the whole GPU or shares it: nothing is gained by waiting for the others
        pairs_tokenised_ahead=TOKENISED_AHEAD,
        profiles=tuple(profiles),
    )


def _check(profile: Profile) -> None:
    for what, values in (("rows", profile.rows), ("tokens", profile.tokens)):
        if values != sorted(values) or values[0] < 1:
            raise ProfileError(
                f"profile {profile} has {what} of {values[0]}, {values[1]} and {values[2]}: "
                "least, best and most must grow"
            )


def _overlap(a: list[int], b: list[int]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2]
