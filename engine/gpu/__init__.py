"""NVIDIA GPUs: TensorRT engines, and what ONNX Runtime needs there.

settings.py      what a caller may ask of GPUs, checked once: pure
profiles.py      which shapes an engine takes, and how runs are shaped for them: pure
engines.py       which engine of an artifact fits this machine, and why another does not: pure
session.py       the session: lanes, buffers, CUDA graphs; knows CUDA and TensorRT only by the next two contracts
cuda.py          the few functions of CUDA that it needs
cuda_python.py   these through cuda-python
py_cuda.py       these through pycuda
tensorrt.py      an engine of TensorRT or TensorRT-RTX
driver.py        the NVIDIA driver, found without any library of CUDA
onnxruntime.py   options of ONNX Runtime's providers, and batches in shapes that they take
bound.py         ONNX Runtime's runs on buffers of the GPU, and as CUDA graphs
"""
