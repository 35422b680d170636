"""The few functions of CUDA that TensorRT engines need."""
