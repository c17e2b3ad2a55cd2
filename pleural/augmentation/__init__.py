"""Augmentation that MONAI does not have, or at too high a cost; the rest is MONAI's.

affine         turns and scales
effusion       synthetic fluid in real chests
consolidation  synthetic tumours and consolidations, which are no effusion
other_fluid    fluid elsewhere, which is no effusion either
hypodensity    organs as dense as fluid, which are none
enhancement    another phase of contrast medium
painting       what the synthetic ones share

Shapes: samples hold ``image``, ``label`` and ``lung_depth_mm``, plain tensors ``(1, X, Y, Z)``, and
``spacing_mm``, ``(3,)``. X grows to the patient's Right, Y to Anterior, Z to Superior.
"""

from pleural.augmentation.affine import RandAffine
from pleural.augmentation.consolidation import RandConsolidation
from pleural.augmentation.effusion import RandEffusion
from pleural.augmentation.enhancement import RandEnhancement
from pleural.augmentation.hypodensity import RandHypodensity
from pleural.augmentation.other_fluid import RandCyst, RandOtherFluid

__all__ = [
    "RandAffine",
    "RandConsolidation",
    "RandCyst",
    "RandEffusion",
    "RandEnhancement",
    "RandHypodensity",
    "RandOtherFluid",
]
