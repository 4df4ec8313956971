"""Denoising: which rows run, what they are made of, and the engine calls that take them a step further."""
