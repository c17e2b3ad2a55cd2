"""With what a result was made."""

import torch

from pleural.versions import versions


def test_versions_name_what_decides_a_result():
    found = versions()
    assert found["torch"] == torch.__version__
    assert {"python", "machine", "pleural", "monai", "code"} <= set(found)
