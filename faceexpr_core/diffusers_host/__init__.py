"""Runs the method on diffusers: pipelines, hooks for fusion, donors."""
