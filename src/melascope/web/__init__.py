"""The web application and its API: the only room with HTTP."""
