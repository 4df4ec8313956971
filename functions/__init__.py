"""Lambda entry points: parse, one call, answer."""
