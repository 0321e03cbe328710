"""The ComputePool controller's decisions: pure functions from what is observed to what is to be done."""
