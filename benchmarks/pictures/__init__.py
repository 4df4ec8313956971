"""Pictures: what the benchmarks draw, and what speed and strength do to images."""
