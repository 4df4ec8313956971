"""What every room of Darkroom shares; imports nothing above itself."""
