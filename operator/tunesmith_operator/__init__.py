"""tunesmith_operator."""
