"""TensorRT engines, without ONNX Runtime."""
