"""Every figure in docs/figures.md comes from here: `make bench PART=...`."""
