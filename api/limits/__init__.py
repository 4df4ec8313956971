"""What one caller may cost the others, and whose pages may ask at all."""
