"""Evaluators: images and prompts in, scores out. See docs/architecture.md."""
