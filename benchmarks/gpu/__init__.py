"""Checks that require a GPU, in steps that are short enough for a machine that is lent for minutes."""
