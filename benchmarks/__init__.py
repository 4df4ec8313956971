"""Every figure in docs/figures.md comes from here: `make bench PART=...`."""

from darkroom import silence

silence.keep()  # before anything here imports a library that it is about
