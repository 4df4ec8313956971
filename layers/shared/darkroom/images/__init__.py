"""Images of requests: where they may come from, what they are for, and those that were uploaded beforehand."""
