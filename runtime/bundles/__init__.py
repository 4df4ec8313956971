"""Bundles: fetched or mounted, verified, and the target of theirs that fits this machine."""
