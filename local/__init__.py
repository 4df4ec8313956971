"""The one-machine deployment: uvicorn around the control plane, a dispatcher, and a pool of runtimes."""
