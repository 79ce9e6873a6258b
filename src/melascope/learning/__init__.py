"""Training and exporting networks: the only room with torch."""
