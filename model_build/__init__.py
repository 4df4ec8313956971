"""The build stage: a checkpoint becomes a bundle of engines in an object store."""


class BuildRefused(Exception):
    """One clear sentence for the person who builds: what is wrong and what to do."""
