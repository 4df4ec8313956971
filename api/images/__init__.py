"""The images that requests bring: sent ahead, in their bodies, or finished earlier."""
