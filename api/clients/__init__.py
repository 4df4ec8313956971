"""What clients of other services speak, translated into our own requests; nothing below these routes knows of them."""
