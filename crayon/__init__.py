"""Crayon: a small Stable Diffusion checkpoint trained from scratch on drawn, captioned scenes."""
