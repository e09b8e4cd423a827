"""The notebooks run from top to bottom on the demo's lake, and are saved with their pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(
    file: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    shutil.copytree(demo_folder / "lake", tmp_path / "lake")
    monkeypatch.setenv("ROOTLAKE_LAKE", str(tmp_path / "lake"))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    book = nbformat.read(file, as_version=4)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(ROOT))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_saved_with_its_pictures(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count('"image/png"') >= 3
    assert '"output_type": "error"' not in text
    assert "/tmp/" not in text
