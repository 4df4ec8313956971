"""The build stage: a checkpoint becomes a bundle of engines in an object store."""

from darkroom import silence

silence.keep()  # before anything here imports a library that it is about


class BuildRefused(Exception):
    """One clear sentence for the person who builds: what is wrong and what to do."""
