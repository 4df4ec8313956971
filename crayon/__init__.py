"""Crayon: a small Stable Diffusion checkpoint trained from scratch on drawn, captioned scenes."""

from darkroom import silence

silence.keep()  # before anything here imports a library that it is about
