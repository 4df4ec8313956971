"""The parts of the approximate cache: policies decide, tiers store, an index finds."""
