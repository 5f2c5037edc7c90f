"""Layers shared by two or more techniques."""
