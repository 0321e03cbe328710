"""tunesmith_server."""
