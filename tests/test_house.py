"""The house rules of docs/decisions.md that can be read off the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "pipeline": {"flows", "model", "training", "evaluation", "data_cards", "prefect", "torch"},
    "model": {"flows", "training", "evaluation", "prefect"},
    "training": {"flows", "prefect"},
    "data_cards": {"flows", "model", "training", "prefect", "torch"},
    "evaluation": {"flows", "prefect"},
}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows_point_one_way(package):
    for path, tree in modules(package):
        assert not FORBIDDEN[package] & set(imports(tree)), path


@pytest.mark.parametrize("package", ["pipeline", "flows", "model", "training", "evaluation", "data_cards", "demo"])
def test_nothing_unpickles(package):
    """Promise 7."""
    for path, tree in modules(package):
        assert not {"pickle", "dill", "cloudpickle", "joblib", "shelve"} & set(imports(tree)), path
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"torch\.(load|save)\(|allow_pickle=True", text), path


@pytest.mark.parametrize("package", ["pipeline", "flows", "model", "training", "evaluation", "data_cards"])
def test_every_file_says_at_its_top_what_it_is_for(package):
    for path, tree in modules(package):
        assert ast.get_docstring(tree), path
