"""The judge: reads pictures back, and says which of a prompt's wishes were granted."""
