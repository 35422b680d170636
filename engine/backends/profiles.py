"""Optimisation profiles: the shapes that GPUs run, and how batches fit them. Pure functions that need no GPU.

TensorRT builds an engine for its profiles. ONNX Runtime's CUDA provider has none, but runs the same few shapes, so that
buffers, kernels and CUDA graphs are reused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modernrank.artifact.manifest import Profile
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy
from modernrank.errors import ProfileError

# Tokens. Widths are multiples of it, so that few shapes occur. It is the block of the sliding layers
# (`export.graph.attention.BLOCK`), of which the graphs for GPUs have whole ones.
STEP = 64
# Maximum number of pairs in a row of an engine. Pooling more slots than a row has costs almost nothing (0.02 % of the
# operations).
SLOTS = 32
# Batches of at most this many tokens spend more time in launching kernels than in running them. Their shapes are
# rounded up to a few, each of which becomes a CUDA graph.
CUDA_GRAPH_TOKENS = 4096
# Pairs of a window on GPUs: a few large batches, short enough that the tokenising of the next window hides behind them.
PREFETCH_PAIRS = 1024
# Pairs of the first window. From 4,096 tokens on a batch runs at the full rate of an H200, and 32 passages have most of
# them, so that the tokenising of the rest of a list hides behind them too.
FIRST_PAIRS = 32
_SHAPE = re.compile(r"(\d+)x(\d+)")
# The row counts of small batches, which are rounded up to one of them. Rounding adds at most half of a count, from 4 on
# at most a third.
_ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def parse_profile(text: str) -> Profile:
    """A profile as the command line takes it: ``NAME=ROWSxTOKENS``, or minimum, optimum and maximum with colons.

    A single shape is the maximum: the minimum is then one row of STEP tokens, the optimum an eighth of the rows. Two
    shapes are the optimum and the maximum.

    >>> print(parse_profile("short=64x512"))
    short=1x64:8x512:64x512
    >>> print(parse_profile("long=1x576:1x2048:4x8192"))
    long=1x576:1x2048:4x8192

    Raises:
        ProfileError: the text has another form, or the three shapes do not grow.
    """
    name, _, shapes = text.partition("=")
    matches = [_SHAPE.fullmatch(shape) for shape in shapes.split(":")]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or len(matches) > 3 or not all(matches):
        raise ProfileError(
            f"profile {text!r} is not NAME=ROWSxTOKENS[:ROWSxTOKENS[:ROWSxTOKENS]], such as short=1x64:8x512:64x512",
            value=text,
        )
    pairs = [(int(match[1]), int(match[2])) for match in matches if match]
    if len(pairs) == 1:
        pairs.insert(0, (max(1, pairs[0][0] // 8), pairs[0][1]))
    if len(pairs) == 2:
        pairs.insert(0, (1, min(STEP, pairs[0][1])))
    profile = Profile(name, [rows for rows, _ in pairs], [tokens for _, tokens in pairs])
    _check(profile)
    _check_widths(profile)
    return profile


def check_profiles(profiles: Sequence[Profile], longest: int) -> None:
    """Refuse profiles that one engine cannot have.

    Args:
        profiles: in any order.
        longest: tokens of the longest pair that the model accepts.

    Raises:
        ProfileError: there are none, two have the same name, two accept the same shape, or one exceeds ``longest``.
    """
    if not profiles:
        raise ProfileError("there is no profile; give at least one, such as short=64x512", profiles=[])
    for profile in profiles:
        _check(profile)
        _check_widths(profile)
        if profile.tokens[2] > in_steps(longest):
            raise ProfileError(
                f"profile {profile} exceeds the model's {longest} tokens; lower it", profiles=[profile], limit=longest
            )
    for a, b in itertools.combinations(profiles, 2):
        if a.name == b.name:
            raise ProfileError(f"two profiles are called {a.name!r}; give them different names", profiles=[a, b])
        if _overlap(a.rows, b.rows) and _overlap(a.tokens, b.tokens):
            shared = f"{max(a.rows[0], b.rows[0])}x{max(a.tokens[0], b.tokens[0])}"
            raise ProfileError(
                f"profiles {a} and {b} both accept {shared}; let one begin where the other ends", profiles=[a, b]
            )


def default_profiles(longest: int) -> list[Profile]:
    """Short contexts of up to 64 x 512 and long ones of up to 4 x 8,192, as far as the model goes.

    >>> [str(profile) for profile in default_profiles(8192)]
    ['short=1x64:16x512:64x512', 'long=1x576:2x2048:4x8192']
    """
    longest = in_steps(longest)
    short = min(512, longest)
    profiles = [Profile("short", [1, 16, 64], [STEP, short, short])]
    if longest > 512:
        profiles.append(Profile("long", [1, 2, 4], [512 + STEP, min(2048, longest), longest]))
    return profiles


def in_steps(tokens: int) -> int:
    """``tokens`` rounded up to a multiple of STEP.

    >>> in_steps(1), in_steps(64), in_steps(8000)
    (64, 64, 8000)
    """
    return -(-tokens // STEP) * STEP


def fit(profiles: Sequence[Profile], rows: int, tokens: int) -> int:
    """The index of the narrowest profile that accepts ``[rows, tokens]``, if necessary with padding.

    Of several that are equally narrow it is the one of fewest rows: its kernels were chosen for small batches.

    Raises:
        ProfileError: none accepts it; the message names them all.
    """
    fitting = [i for i, p in enumerate(profiles) if rows <= p.rows[2] and tokens <= p.tokens[2]]
    if not fitting:
        raise ProfileError(
            f"no profile accepts {rows} rows of {tokens} tokens; the engine has {', '.join(map(str, profiles))}. "
            "Score shorter pairs (max_length=..), or build an engine with a profile for them: modernrank build-engine",
            profiles=list(profiles),
            rows=rows,
            tokens=tokens,
        )
    return min(fitting, key=lambda i: (profiles[i].tokens[2], profiles[i].rows[2]))


def rounded(profile: Profile, rows: int, tokens: int) -> tuple[int, int]:
    """The shape that runs for ``[rows, tokens]``: a width in STEPs, and for small batches one of a few row counts.

    >>> rounded(default_profiles(8192)[0], rows=5, tokens=100)
    (6, 128)
    """
    tokens = min(max(in_steps(tokens), profile.tokens[0]), profile.tokens[2])
    if rows * tokens <= CUDA_GRAPH_TOKENS:
        rows = next(count for count in _ROW_COUNTS if count >= rows)
    return min(max(rows, profile.rows[0]), profile.rows[2]), tokens


@dataclass(frozen=True)
class ProfileShapes:
    """Makes batches as wide as their longest pair, with as many rows as the profile accepts.

    They are wider, up to the optimum width of the profile, where more pairs wait than its rows would hold.
    """

    profiles: tuple[Profile, ...]

    def __call__(self, longest: int, waiting: int) -> tuple[int, int]:
        """The width in STEPs, and as many rows as the profile accepts."""
        profile = self._widest(longest)
        wanted = max(longest, min(-(-waiting // profile.rows[2]), profile.tokens[1]))
        _, width = rounded(profile, 1, wanted)
        return width, profile.rows[2]

    def most_rows(self, tokens: int) -> int:
        """Maximum number of rows of ``tokens`` tokens in a batch."""
        return self._widest(tokens).rows[2]

    def _widest(self, tokens: int) -> Profile:
        """Of the narrowest profiles that accept ``tokens`` the one of most rows; batches of fewer may run in others."""
        narrowest = self.profiles[fit(self.profiles, 1, tokens)]
        equals = (profile for profile in self.profiles if profile.tokens[2] == narrowest.tokens[2])
        return max(equals, key=lambda profile: profile.rows[2])


def policy_of(profiles: Sequence[Profile], slots: int, workers: int, warm_up_runs: int = 1) -> BatchPolicy:
    """Which batches a GPU with these profiles prefers: rows of several pairs, as many as the profiles accept.

    Args:
        profiles: the shapes that it runs.
        slots: maximum number of pairs in a row.
        workers: number of batches that run side by side.
        warm_up_runs: number of runs of a shape before it is as fast as it gets.
    """
    # A lane has the whole GPU or shares it, so it gains nothing by waiting for the others.
    max_tokens = max(profile.rows[2] * profile.tokens[2] for profile in profiles)
    return BatchPolicy(
        PackingPolicy(
            ProfileShapes(tuple(profiles)), pairs_per_row=slots, minimum_fill=0.0, launch_tokens=CUDA_GRAPH_TOKENS
        ),
        SchedulePolicy(workers, tokens_per_worker=max_tokens, serial_share=1.0),
        prefetch_pairs=PREFETCH_PAIRS,
        first_pairs=FIRST_PAIRS,
        warm_up_runs=warm_up_runs,
    )


def _check(profile: Profile) -> None:
    for dimension, values in (("rows", profile.rows), ("tokens", profile.tokens)):
        if values != sorted(values) or values[0] < 1:
            raise ProfileError(
                f"profile {profile} has {dimension} of {values[0]}, {values[1]} and {values[2]}: "
                "minimum, optimum and maximum must be at least 1 and must not decrease",
                profiles=[profile],
            )


def _check_widths(profile: Profile) -> None:
    odd = [tokens for tokens in profile.tokens if tokens % STEP]
    if odd:
        raise ProfileError(
            f"profile {profile} has {odd[0]} tokens; rows on GPUs are whole blocks of {STEP} tokens; give "
            f"{in_steps(odd[0])}",
            profiles=[profile],
            step=STEP,
        )


def _overlap(a: list[int], b: list[int]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2]
