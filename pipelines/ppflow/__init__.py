"""Named experiments: recipes of generation and training stages, their runner, tables and reports."""
