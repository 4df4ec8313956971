"""Serving: HTTP in front, one engine thread behind, and every accepted request answered."""
