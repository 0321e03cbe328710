"""The trainer: one image, one command, three stages that share a job config and a workspace."""
