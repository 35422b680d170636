"""Results: their format, tables, plots and comparison."""
