"""Scenes: crayon's world, its pictures and its captions."""
