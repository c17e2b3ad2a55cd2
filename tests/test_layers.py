"""The plan of the house: imports go down only, and the configuration stays at the edge."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up; modules of one layer do not import each other. A folder's name stands for
# all of its modules that are not named themselves.
LAYERS = [
    ["window"],
    [
        *("errors", "volume", "dice", "hardware", "model", "tuned", "clock"),
        *("chance", "versions", "words"),
    ],
    [
        *(
            "settings",
            "schedule",
            "patience",
            "statistics",
            "size",
            "inference",
            "loss",
            "draws",
            "parts",
            "body",
            "trusted",
        ),
        *("io.whole", "io.plausible"),
    ],
    [
        *("io.dicom_write", "io.find", "midline", "idle"),
        *("anatomy", "metrics", "summaries", "summary_text"),
    ],
    ["io.dicom_geometry", "io.dicom_header", "io.nifti", "io.archive"],
    ["io.dicom"],
    ["io.dicom_seg"],
    ["io"],
    ["data.case", "preprocess", "run_folder", "prediction_folder", "measure"],
    [
        "data.split",
        "data.phantom",
        "data.folder",
        "data.table",
        "data.plethora",
        "trained",
        "figures",
        "lungs",
    ],
    ["prepared", "trainer", "interrupt", "sweep", "tracking", "history", "held_out"],
    ["steps", "start"],
    ["dataset", "segmenter", "augmentation"],
    ["judgement", "loop", "predictions", "faults", "shards"],
    ["preflight"],
    ["place", "train", "predict", "evaluate", "audit", "report", "export", "search"],
    ["config", "command"],
]
KNOW_HYDRA = {"command", "config", "idle", "place", "settings", "sweep", "trained"}


def modules():
    for path in sorted((ROOT / "pleural").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "pleural").with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    """The number of a module's layer; a module of a folder may stand for itself."""
    while name:
        for number, names in enumerate(LAYERS):
            if name in names:
                return number, name
        name = name.rpartition(".")[0]
    return None


MODULES = [(name, path) for name, path in modules() if name not in ("__init__", "data")]


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_down(name, path):
    own = layer(name)
    assert own is not None, f"pleural/{name} has no layer: give it one above"
    for module in imported(path):
        if not module.startswith("pleural."):
            continue
        other = layer(module.removeprefix("pleural."))
        if other is None or other[1] == own[1]:
            continue  # a name within a module, or the same folder
        assert other[0] < own[0], f"{name} imports {module}, which is not below it"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_configuration_stays_at_the_edge(name, path):
    tops = {module.split(".")[0] for module in imported(path)}
    assert name in KNOW_HYDRA or not tops & {"hydra", "omegaconf"}


def test_one_lightning_only():
    for name, path in MODULES:
        assert "lightning" not in {m.split(".")[0] for m in imported(path)}, name


def test_no_utils():
    assert not [name for name, _ in MODULES if "util" in name or "helper" in name]


def test_functions_are_short():
    for name, path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                assert length <= 60, f"{name}.{node.name} has {length} lines"
