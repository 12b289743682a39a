"""Evaluators that judge images together: diversity of a prompt's, a run against a reference set."""
