"""Serving: requests that arrive by chance or all at once, at our server and at others."""
