"""Which cases of a data set are suspicious, why, and where to look.

task        the audit of a data set: ranks, tables, outputs
inspection  one case: its files read, everything suspicious about them
suspicions  checks of densities, holes, gaps, specks and edges
placement   checks of grids, flips and a border amid fluid
page        what is shown: pictures, and a page with all of them
"""

from pleural.audit.task import audit

__all__ = ["audit"]
