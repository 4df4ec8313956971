"""`plan`: what a scaling policy would do, and cost, before anything is applied."""
