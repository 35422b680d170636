"""A checkpoint's files: where they are, and its tensors."""
