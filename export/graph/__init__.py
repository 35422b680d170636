"""Writes ONNX graphs: nodes and scopes, linear layers, attention in each dialect."""
