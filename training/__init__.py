"""Training of a checkpoint: objectives, data, the loop. See docs/architecture.md."""
