"""Training: from nothing to crayon's checkpoint and its ControlNet."""
