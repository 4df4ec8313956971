"""Engines: what they do on this machine, against diffusers, other runtimes and the hardware's limit."""
