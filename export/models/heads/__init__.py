"""Heads: from an encoder's hidden states to logits."""
