"""The bundle: the one object in which training and serving meet."""
