"""Why a deployment does not start."""


class CannotStart(Exception):
    """One sentence for the operator, which says what to do."""
