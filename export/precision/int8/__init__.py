"""int8: a graph of quantised linear layers, its scales measured on calibration pairs.

write.py    all steps in order
choose.py   for each layer how strongly to smooth, where to clip, and what stays in float32
smooth.py   move scale from activations to weights where the weights tolerate it better, at no cost
weights.py  the integers themselves
linear.py   the product in the graph
"""
