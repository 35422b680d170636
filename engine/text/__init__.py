"""From texts to token ids, and JSON lines of texts."""
