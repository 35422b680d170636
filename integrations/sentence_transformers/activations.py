"""Activations as ``CrossEncoder`` takes them: modules of torch, names of these, and any callable.

The three that checkpoints use are computed in numpy, so they require no torch; everything else is called with a tensor.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modernrank.activations import sigmoid, softmax
from modernrank.arrays import FloatArray
from modernrank.errors import InputError

Activation = str | Callable[[Any], Any]
OnNumpy = Callable[[FloatArray], FloatArray]


def _identity(logits: FloatArray) -> FloatArray:
    return logits


# By the names of torch's classes in lower case, and by modernrank's.
BY_NAME: Mapping[str, OnNumpy] = {"identity": _identity, "logit": _identity, "sigmoid": sigmoid, "softmax": softmax}
LAST_AXIS = (None, 1, -1)  # of [pairs, labels]; torch takes 1 where a Softmax has none


def activation_of(activation: object) -> OnNumpy:
    """The function that applies ``activation`` to logits.

    Args:
        activation: a module such as ``torch.nn.Sigmoid()``; ``"identity"``, ``"sigmoid"`` or ``"softmax"``; the full
            name of a class of torch, such as ``"torch.nn.modules.activation.Tanh"``; or a callable, which is called
            once with a float32 tensor ``[pairs, labels]`` of a whole call and requires torch.

    Returns:
        A function of float32 ``[pairs, labels]``, whose result has the same number of rows.

    Raises:
        InputError: it is nothing of this kind.

    >>> activation_of("sigmoid")(np.zeros((1, 1), np.float32))
    array([[0.5]], dtype=float32)
    """
    if isinstance(activation, str):
        return _by_name(activation)
    module, name = type(activation).__module__, type(activation).__name__.lower()
    if module.startswith("torch.nn.modules.") and name in BY_NAME:
        _check_axis(activation)
        return BY_NAME[name]
    if not callable(activation) or isinstance(activation, type):
        raise InputError(
            f"activation_fn is {activation!r}; it must be a module such as torch.nn.Sigmoid(), a callable, or one of "
            f"{', '.join(BY_NAME)}",
            argument="activation_fn",
            value=activation,
        )
    function = activation
    return lambda logits: _on_tensor(function, logits)


def activation_in(class_name: str) -> Callable[[Any], Any]:
    """An object of the class with this full name, such as ``"torch.nn.modules.activation.Tanh"``.

    Raises:
        ImportError, AttributeError: there is no such module or class.
    """
    module, _, name = class_name.rpartition(".")
    made: Callable[[Any], Any] = getattr(importlib.import_module(module), name)()
    return made


def torch_for(purpose: str) -> Any:
    """The module ``torch``.

    Raises:
        ImportError: it is not installed; the message says what ``purpose`` requires it.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(f"{purpose} requires torch: pip install torch, or ask for numpy's arrays") from error


def _by_name(name: str) -> OnNumpy:
    if name.startswith("torch.nn."):
        last = name.rpartition(".")[2].lower()
        return BY_NAME[last] if last in BY_NAME else activation_of(activation_in(name))
    if name.lower() not in BY_NAME:
        raise InputError(
            f"activation_fn {name!r} is unknown; choose one of {', '.join(BY_NAME)}, or the full name of a class such "
            "as torch.nn.modules.activation.Tanh",
            argument="activation_fn",
            value=name,
            choices=tuple(BY_NAME),
        )
    return BY_NAME[name.lower()]


def _check_axis(activation: object) -> None:
    axis = getattr(activation, "dim", None)
    if axis not in LAST_AXIS:
        raise InputError(
            f"activation_fn is {activation!r}, whose scores depend on which pairs share a batch; use dim=1",
            argument="activation_fn",
            value=activation,
        )


def _on_tensor(function: Callable[[Any], Any], logits: FloatArray) -> FloatArray:
    torch = torch_for(f"activation_fn {function!r}")
    with torch.inference_mode():
        result = function(torch.from_numpy(logits.copy()))
    if isinstance(result, torch.Tensor):
        result = result.float().cpu().numpy()
    scores = np.asarray(result, np.float32)
    if scores.shape[:1] != logits.shape[:1]:
        raise InputError(
            f"activation_fn made {scores.shape} of logits of the shape {logits.shape}; it must return a row for each "
            "pair",
            argument="activation_fn",
            value=function,
        )
    return scores
