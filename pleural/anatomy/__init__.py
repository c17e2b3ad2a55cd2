"""A synthetic chest CT with a pleural effusion of known volume.

The patient lies on the back at the origin of the world: x grows to the Right, y to Anterior, z to
Superior, so gravity points to -y.

    patient  sizes, tissues and findings, drawn from a seed; the surfaces that part the body
    fluid    where an effusion of a wanted volume lies
    organs   what is painted, from the skin inwards
    ct       the scan: thick slices, blur, noise, axis codes
    shapes   the brush: analytic shapes in mm on a grid of voxels
"""

from pleural.anatomy.ct import Chest, chest

__all__ = ["Chest", "chest"]
