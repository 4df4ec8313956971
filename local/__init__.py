"""The one-machine deployment: the real Lambda handler behind an adapter, a dispatcher, and a pool of runtimes."""
