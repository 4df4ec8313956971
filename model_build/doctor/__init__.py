"""Doctor: what is missing on this machine for GPU engines, and what those built on it do."""
