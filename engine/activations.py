"""From logits to scores, in float32, because half precision would create false ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .arrays import FloatArray
from .artifact.manifest import Model
from .errors import InputError
from .options import ActivationChoice, check_choice


def sigmoid(logits: FloatArray) -> FloatArray:
    """``1 / (1 + exp(-x))`` of each logit, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0], np.float32))
    array([0. , 0.5, 1. ], dtype=float32)
    """
    power = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + power), power / (1 + power)).astype(np.float32)


def softmax(logits: FloatArray) -> FloatArray:
    """``exp(x)`` divided by its sum along the last axis, the labels.

    >>> softmax(np.array([[0.0, 0.0]], np.float32))
    array([[0.5, 0.5]], dtype=float32)
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: FloatArray = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def _identity(logits: FloatArray) -> FloatArray:
    return logits


# By name, as `Reranker.score` takes them; "model" stands for the one that the artifact records.
ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "logit": _identity,
    "sigmoid": sigmoid,
    "softmax": softmax,
}


def activate(name: str, logits: FloatArray) -> FloatArray:
    """Apply an activation to logits ``[pairs, labels]``; the shape does not change.

    >>> activate("sigmoid", np.zeros((1, 1), np.float32))
    array([[0.5]], dtype=float32)
    """
    return ACTIVATIONS[name](logits)


def pipeline_activation(model: Model) -> str:
    """The activation that ``pipeline("text-classification")`` of transformers applies to a model's logits.

    None for regression; sigmoid for one label or several independent ones; otherwise softmax. Where there is a label,
    it ignores ``function_to_apply`` of a config.

    Raises:
        InputError: it depends on the checkpoint's ``problem_type``, which the artifact does not record.
    """
    if model.problem_type == "":
        raise InputError(
            "this artifact does not record the checkpoint's problem_type, so what transformers would apply is unknown; "
            f"choose activation, one of {', '.join(ACTIVATIONS)}, or export the artifact again",
            argument="activation",
            choices=tuple(ACTIVATIONS),
        )
    if model.problem_type == "regression":
        return "logit"
    is_independent = len(model.labels) == 1 or model.problem_type == "multi_label_classification"
    return "sigmoid" if is_independent else "softmax"


def resolve_activation(activation: ActivationChoice, model: Model) -> str:
    """The activation to compute for ``model``, with ``"model"`` replaced by the one that the artifact records.

    Raises:
        InputError: it is unknown, makes no sense for this model, or the artifact records none that is implemented.
    """
    check_choice("activation", activation, ActivationChoice)
    chosen = model.activation if activation == "model" else activation
    if chosen not in ACTIVATIONS:
        recorded = f"asks for {chosen!r}, which is not implemented" if chosen else "records none"
        raise InputError(
            f"activation 'model': this artifact {recorded}; choose one of {', '.join(ACTIVATIONS)}, or export the "
            "artifact again",
            argument="activation",
            value=chosen,
            choices=tuple(ACTIVATIONS),
        )
    if chosen == "softmax" and len(model.labels) == 1:
        raise InputError(
            "softmax over one label is always 1; choose activation='sigmoid' or 'logit'", argument="activation"
        )
    return chosen
