"""A family of models from the smallest to the largest: what each size takes to export, to load and to score."""
