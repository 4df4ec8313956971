"""The container: loads an engine bundle and serves it over HTTP, without torch."""
