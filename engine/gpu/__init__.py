"""TensorRT engines on NVIDIA GPUs.

profiles.py      which shapes an engine takes, and how runs are shaped for them: pure
engines.py       which engine of an artifact fits this machine, and why another does not: pure
session.py       the session: lanes, buffers, CUDA graphs; knows CUDA and TensorRT only by the next two contracts
cuda.py          the few functions of CUDA that it needs
cuda_python.py   these through cuda-python
py_cuda.py       these through pycuda
tensorrt.py      an engine of TensorRT or TensorRT-RTX
"""
