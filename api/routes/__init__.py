"""Every address of the control plane: parse, one call, answer."""
