"""tunesmith_api."""
