"""Rotary position embeddings (RoPE): the angles of a config's parameters, scaled for long contexts or not.

A position turns the pair of channels (i, i + head_size / 2) of each head by ``position * frequencies[i]``. A config
names a scaling of the frequencies (``rope_type``); these are implemented, each as transformers 5 computes it
(``modeling_rope_utils.py``), but in float64:

    default        theta ** (-2i / head_size)                       RoFormer, https://arxiv.org/abs/2104.09864
    linear         the same, divided by ``factor``                  https://arxiv.org/abs/2306.15595
    dynamic        as default: it stretches only texts beyond ``max_position_embeddings``, which are refused anyway
    yarn           low frequencies divided by ``factor``, high ones kept, a ramp between; cos and sin magnified
                                                                    https://arxiv.org/abs/2309.00071
    llama3         the same idea, with a ramp over wavelengths      https://arxiv.org/abs/2407.21783
    proportional   only the first ``partial_rotary_factor`` of the pairs turn

``longrope`` takes another table as soon as one text of a batch is long, so a text's score would depend on its company;
it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rope:
    """The angles of one kind of layer.

    frequencies: radians by which each of the head_size / 2 pairs of channels turns at each position.
    magnitude:   factor of all cosines and sines.

    >>> Rope((1.0, 0.01)).table(3)[0].shape
    (3, 2)
    """

    frequencies: tuple[float, ...]
    magnitude: float = 1.0

    def table(self, positions: int) -> tuple[Float64Array, Float64Array]:
        """Cosines and sines of positions 0, 1, .., each float64 ``[positions, head_size / 2]``."""
        angles = np.arange(positions)[:, None] * np.array(self.frequencies)
        return np.cos(angles) * self.magnitude, np.sin(angles) * self.magnitude


@dataclass(frozen=True)
class RopeFields:
    """The parameters of one kind of layer in a config, and what their defaults depend on.

    values:        ``rope_type`` and the fields of that type, without ``rope_theta``.
    theta:         the base of the frequencies.
    head_size:     width of an attention head.
    max_positions: maximum number of tokens of the model.
    refuse:        raises the error of the config's field; its argument continues the sentence "rope_parameters = .. ".
    """

    values: Mapping[str, Any]
    theta: float
    head_size: int
    max_positions: int
    refuse: Callable[[str], NoReturn]

    def number(self, name: str) -> float:
        """A positive number that must be given."""
        value = self.optional(name)
        return self.refuse(f"has no {name}, which {self.values['rope_type']} requires") if value is None else value

    def optional(self, name: str) -> float | None:
        """A positive number, or None if it is absent or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            self.refuse(f"has {name} {value!r}, which must be a positive number")
        return float(value)

    def original_positions(self) -> int:
        """The maximum number of tokens in training, before the scaling; by default that of the model."""
        value = self.values.get("original_max_position_embeddings", self.max_positions)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(f"has original_max_position_embeddings {value!r}, which must be a whole number of at least 1")
        return value

    def unscaled(self) -> Float64Array:
        """``theta ** (-2i / head_size)`` for each pair of channels."""
        frequencies: Float64Array = self.theta ** (-np.arange(0, self.head_size, 2) / self.head_size)
        return frequencies


def read_rope(fields: RopeFields) -> Rope:
    """The angles that ``fields`` describe. All that would change a score is used or refused.

    >>> def refuse(why):
    ...     raise ValueError(why)
    >>> read_rope(RopeFields({"rope_type": "linear", "factor": 2.0}, 10_000.0, 4, 512, refuse))
    Rope(frequencies=(0.5, 0.005), magnitude=1.0)

    Raises:
        ArtifactError: by ``refuse``, for a type or a field that is not implemented, or a value that is not allowed.
    """
    name = fields.values.get("rope_type")
    if name == "longrope":
        fields.refuse(
            "is not implemented: longrope's table depends on the longest text of a batch, so that a score would depend "
            "on the texts beside it"
        )
    scaling = SCALINGS.get(name) if isinstance(name, str) else None
    if scaling is None:
        return fields.refuse(f"has rope_type {name!r}, which is not implemented; implemented are {', '.join(SCALINGS)}")
    unknown = sorted(set(fields.values) - {"rope_type", *PARTIAL, *scaling.fields})
    if unknown:
        fields.refuse(f"has {', '.join(unknown)}, which is not implemented for rope_type {name!r}")
    part = fields.values.get("partial_rotary_factor", 1.0)
    if part != 1.0 and name != "proportional":
        fields.refuse(f"has partial_rotary_factor {part!r}, which only rope_type 'proportional' can have")
    frequencies, magnitude = scaling.compute(fields)
    return Rope(tuple(frequencies.tolist()), magnitude)


def _default(fields: RopeFields) -> tuple[Float64Array, float]:
    return fields.unscaled(), 1.0


def _linear(fields: RopeFields) -> tuple[Float64Array, float]:
    return fields.unscaled() / fields.number("factor"), 1.0


def _dynamic(fields: RopeFields) -> tuple[Float64Array, float]:
    fields.number("factor")
    return fields.unscaled(), 1.0


def _proportional(fields: RopeFields) -> tuple[Float64Array, float]:
    part = fields.values.get("partial_rotary_factor", 1.0)
    if not isinstance(part, int | float) or isinstance(part, bool) or not 0 <= part <= 1:
        fields.refuse(f"has partial_rotary_factor {part!r}, which must be a number from 0 to 1")
    frequencies = fields.unscaled() / (fields.optional("factor") or 1.0)
    frequencies[int(part * fields.head_size // 2) :] = 0.0
    return frequencies, 1.0


def _yarn(fields: RopeFields) -> tuple[Float64Array, float]:
    """The paper's NTK-by-parts: pairs that turn often within the original length are kept, slow ones interpolated.

    A ramp over the pairs joins both. ``_yarn_magnitude`` is the paper's temperature of attention.
    """
    if fields.values.get("truncate", True) is not True:
        fields.refuse("has truncate, which transformers ignores for models with parameters by layer type; remove it")
    if fields.theta == 1.0:
        fields.refuse("has rope_theta 1, for which yarn is not defined")
    if "factor" not in fields.values:
        fields.number("factor")  # null stands for the ratio of the lengths, but the field must be there
    original = fields.original_positions()
    factor = fields.optional("factor") or fields.max_positions / original
    pairs = fields.head_size // 2
    fast, slow = fields.optional("beta_fast") or 32.0, fields.optional("beta_slow") or 1.0
    low = max(math.floor(_pair_of_rotations(fast, fields, original)), 0)
    high = min(math.ceil(_pair_of_rotations(slow, fields, original)), fields.head_size - 1)
    width = high - low or 0.001  # as transformers, so that the ramp has no pole
    interpolated = np.clip((np.arange(pairs) - low) / width, 0.0, 1.0)
    frequencies = fields.unscaled() * (1 - interpolated) + fields.unscaled() / factor * interpolated
    return frequencies, _yarn_magnitude(fields, factor)


def _pair_of_rotations(rotations: float, fields: RopeFields, positions: int) -> float:
    """The pair of channels, as a real number, that turns ``rotations`` times within a number of ``positions``."""
    return fields.head_size * math.log(positions / (rotations * 2 * math.pi)) / (2 * math.log(fields.theta))


def _yarn_magnitude(fields: RopeFields, factor: float) -> float:
    given = fields.optional("attention_factor")
    if given is not None:
        return given
    numerator, denominator = fields.optional("mscale"), fields.optional("mscale_all_dim")
    growth = 0.1 * math.log(factor) if factor > 1 else 0.0
    if numerator and denominator:
        return (numerator * growth + 1) / (denominator * growth + 1)
    return growth + 1


def _llama3(fields: RopeFields) -> tuple[Float64Array, float]:
    """Pairs that turn often within the original length are kept, slow ones divided by ``factor``, others in between."""
    factor = fields.number("factor")
    low, high = fields.number("low_freq_factor"), fields.number("high_freq_factor")
    if high <= low:
        fields.refuse(f"has high_freq_factor {high:g}, which must exceed low_freq_factor {low:g}")
    frequencies = fields.unscaled()
    turns = fields.original_positions() * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - kept) * frequencies / factor + kept * frequencies, 1.0


@dataclass(frozen=True)
class _Scaling:
    """A ``rope_type``: its fields besides ``rope_theta``, and the frequencies and the magnitude that they give."""

    fields: tuple[str, ...]
    compute: Callable[[RopeFields], tuple[Float64Array, float]]


PARTIAL = ("partial_rotary_factor",)
_ORIGINAL = "original_max_position_embeddings"
_YARN_FIELDS = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")

SCALINGS: Mapping[str, _Scaling] = {
    "default": _Scaling((), _default),
    "linear": _Scaling(("factor",), _linear),
    "dynamic": _Scaling(("factor",), _dynamic),
    "yarn": _Scaling(("factor", _ORIGINAL, *_YARN_FIELDS), _yarn),
    "llama3": _Scaling(("factor", _ORIGINAL, "low_freq_factor", "high_freq_factor"), _llama3),
    "proportional": _Scaling(("factor",), _proportional),
}
