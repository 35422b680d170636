"""The model that is trained: tokenizer, layers, heads, starting weights, and batches of its inputs."""
