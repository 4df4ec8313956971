"""Releases: which versions of a model its endpoint runs, and how it comes to run others."""
