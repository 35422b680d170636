"""A checkpoint's files: where they are, its tensors, and the activation that it asks for."""
