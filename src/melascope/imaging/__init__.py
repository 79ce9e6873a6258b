"""From bytes to the numbers a network reads."""
