"""int8: a graph of quantised linear layers, its scales measured on calibration pairs.

write.py           all steps in order
channel_order.py   which channels are neighbours, and so share the limit of weights that cannot saturate
choose.py          for each layer how strongly to smooth, where to clip, and what stays in float32
smooth.py          move scale from activations to weights where the weights tolerate it better, at no cost
inputs.py          how activations become integers
weights.py         integers that no processor can saturate, and their scales
error_feedback.py  the integers that make up for each other's errors
linear.py          the product in the graph
"""
