"""The world's formats: what other systems read and write."""
