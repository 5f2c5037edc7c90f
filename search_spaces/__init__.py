"""One file here is one technique: its space and its recipe.

Names with a leading _ are parts shared by several.
"""
