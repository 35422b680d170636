"""From a connection to a call and back: bodies, keys, limits, refusals."""
