"""tunesmith_cli."""
