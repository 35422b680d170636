"""ModernBERT sequence classifiers."""
