"""Sizes: what container images and environments take on disk."""
