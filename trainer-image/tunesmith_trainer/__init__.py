"""tunesmith_trainer."""
