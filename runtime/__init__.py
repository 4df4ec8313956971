"""The container: loads an engine bundle and serves it over HTTP, without torch."""

from darkroom import silence

silence.keep()  # before anything here imports a library that it is about
