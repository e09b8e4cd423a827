"""Sources into raw tables: one file per source, every row exactly once."""
