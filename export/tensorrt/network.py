"""A graph as TensorRT reads it: parsed, with attention that may be decomposed, and with profiles for its shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modernrank.artifact.manifest import Profile
from modernrank.batching.batch import INPUTS_PER_TOKEN
from modernrank.errors import ArtifactError


def parse_network(trt: Any, builder: Any, log: Any, file: Path) -> Any:
    """The network of a graph, strongly typed: every tensor has the type that the graph gives it.

    Raises:
        ArtifactError: the parser refuses the graph; the message names the first node and the reason.
    """
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # since TensorRT 11 there is no other
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(file)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        first = f"{errors[0].node_name()}: {errors[0].desc()}" if errors else "it gives no reason"
        raise ArtifactError(
            f"TensorRT {trt.__version__} cannot read {file} ({first}); versions before 10.15 require "
            "`modernrank export --precision fp16 --graph tensorrt-decomposed`",
            path=file,
            version=str(trt.__version__),
        )
    _allow_decomposition(trt, network)
    return network


def _allow_decomposition(trt: Any, network: Any) -> None:
    """Let TensorRT compute attention as products and a softmax if it has no fused kernel for a shape or a type."""
    attention_input = getattr(trt, "IAttentionInputLayer", None)
    if attention_input is None:
        return
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = attention_input  # as NVIDIA's API asks for: get_layer gives the base class
            layer.attention.decomposable = True


def add_profiles(builder: Any, config: Any, profiles: Sequence[Profile], slots: int) -> list[dict[str, Any]]:
    """Give TensorRT the profiles; returns minimum, optimum and maximum of each input as it accepted them.

    Raises:
        ArtifactError: TensorRT refuses a profile.
    """
    accepted = []
    for profile in profiles:
        ranges = builder.create_optimization_profile()
        shapes = list(zip(profile.rows, profile.tokens, strict=True))
        for name in INPUTS_PER_TOKEN:
            ranges.set_shape(name, *shapes)
        ranges.set_shape("slots", (slots,), (slots,), (slots,))
        if config.add_optimization_profile(ranges) < 0:
            raise ArtifactError(f"TensorRT refuses profile {profile}; its log has the reason", profile=str(profile))
        accepted.append(
            {name: [list(shape) for shape in ranges.get_shape(name)] for name in (*INPUTS_PER_TOKEN, "slots")}
        )
    return accepted


def describe_network(network: Any) -> dict[str, Any]:
    """Inputs, outputs and layers of a parsed network."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return {
        "inputs": {t.name: _tensor(t) for t in (network.get_input(i) for i in range(network.num_inputs))},
        "outputs": {t.name: _tensor(t) for t in (network.get_output(i) for i in range(network.num_outputs))},
        "layers": [
            {
                "name": layer.name,
                "kind": _name(layer.type),
                "outputs": [_tensor(layer.get_output(j)) for j in range(layer.num_outputs)],
            }
            for layer in layers
        ],
    }


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"type": _name(tensor.dtype), "dims": list(tensor.shape) if len(tensor.shape) >= 0 else None}


def _name(member: Any) -> str:
    """The name of a member of one of TensorRT's enumerations."""
    return str(member.name)
