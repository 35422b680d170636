"""What runs a batch: ONNX Runtime and TensorRT, on processors and GPUs."""
