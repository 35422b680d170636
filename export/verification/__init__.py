"""An artifact's logits against those of transformers."""
