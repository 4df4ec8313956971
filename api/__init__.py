"""The control plane: one ASGI application, the same object in Lambda, on one machine and in several processes."""
