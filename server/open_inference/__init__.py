"""The Open Inference Protocol, version 2, as Triton speaks it: tensors of texts in, a tensor of scores out."""
