"""modernrank inside other frameworks: one module for each, importable only with its framework."""
