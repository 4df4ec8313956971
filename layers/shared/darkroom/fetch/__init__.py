"""Fetching what strangers' URLs lead to: their grammar, the addresses they may have, and the one connection made."""
