"""The recipe for images of any size, written into the source of a network of one input side."""

from __future__ import annotations

from nasx.referencesource import reference_source
from nasx.tasks.tiles import Tiling, tiled

RECIPE = '''

TILE, OVERLAP, BORDER, SCALE = {side}, {overlap}, {border}, {scale}


{tiled}

def restore(image, network=None):
    """Return the answer (C, SCALE H, SCALE W) to an image (C, H, W) in [0, 1], of any size.

    It is cut into tiles of TILE pixels that overlap by OVERLAP; BORDER pixels of each are thrown
    away inside the image, and the mean is taken of what is left. `network` maps (N, C, TILE, TILE)
    to the answers; by default it is the one of this file.
    """
    with torch.inference_mode():
        network = network or Model().eval()
        return tiled(network, image[None], TILE, OVERLAP, BORDER, SCALE)[0]
'''


def recipe_source(tiling: Tiling) -> str:
    """Return the functions `tiled` and `restore`, for a file that has torch, F and a `Model`."""
    how = {n: getattr(tiling, n) for n in ("side", "overlap", "border", "scale")}
    return RECIPE.format(**how, tiled=reference_source("tiled", tiled))
