"""Pictures: image files that strangers send, what is made of them, and image files that leave."""
