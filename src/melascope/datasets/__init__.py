"""From published datasets to case tables, splits and cached pixels. No torch."""
