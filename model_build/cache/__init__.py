"""Cache: how alike prompts must be to share work, measured on a published bundle."""
