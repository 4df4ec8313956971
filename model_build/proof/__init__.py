"""Proof: the same image from the same noise by diffusers and by the bundle, compared and timed."""
