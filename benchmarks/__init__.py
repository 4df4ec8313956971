"""Every figure in the README comes from here: `make bench PART=...`."""

from darkroom import silence

silence.keep()  # before anything here imports a library that it is about
