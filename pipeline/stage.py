"""A stage of a run: a folder that is done when its manifest is there.

A stage's key is a hash of everything that decides its output: its name and version, the configuration that it reads, and the keys of the
stages that it reads from. A folder whose manifest has this key is done and is never touched again. A folder that was begun under the same key
and then killed is continued: whatever files it has are whole (`files.py`). A folder of another key is emptied first.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
BEGUN = "begun.json"


@dataclass(frozen=True)
class Stage:
    """One folder of a run and the key that says what must be in it."""

    folder: Path
    key: str

    @property
    def name(self) -> str:
        return self.folder.name

    def path(self, name: str) -> Path:
        return self.folder / name

    def is_done(self) -> bool:
        """True when the manifest has this key and every file that it names is there with its size."""
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            return False
        content = files.read_json(manifest)
        if content.get("key") != self.key:
            return False
        for name, entry in content["files"].items():
            path = self.folder / name
            if not path.exists() or path.stat().st_size != entry["bytes"]:
                logger.warning(
                    "stage %s: %s is missing or has another size than when it was written; made again", self.name, path
                )
                return False
        return True

    def begin(self) -> None:
        """Prepare the folder: keep what a killed run of the same key left, remove what another key left."""
        begun = self.folder / BEGUN
        if self.folder.exists() and not (begun.exists() and files.read_json(begun).get("key") == self.key):
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.remove_partial_files(self.folder)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        files.write_json(begun, {"stage": self.name, "key": self.key})

    def finish(self, extra: dict[str, Any] | None = None) -> None:
        """Write the manifest over all files of the folder."""
        paths = sorted(p for p in self.folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, BEGUN))
        entries = {
            p.relative_to(self.folder).as_posix(): {"bytes": p.stat().st_size, "sha256": files.sha256_file(p)}
            for p in paths
        }
        files.write_json(
            self.folder / MANIFEST, {"stage": self.name, "key": self.key, "files": entries, **(extra or {})}
        )


def stage(run: Path, name: str, version: int, config: Any, after: list[Stage]) -> Stage:
    """The stage `name` of the run folder `run`, made from `config` (JSON-able) and the stages in `after`."""
    key = files.sha256_json({"stage": name, "version": version, "config": config, "after": [s.key for s in after]})
    return Stage(run / name, key)


def run_stage(target: Stage, build: Callable[[Stage], dict[str, Any] | None]) -> bool:
    """Build `target` unless it is done. True when work was done. `build` writes the files and may return more for the manifest."""
    if target.is_done():
        return False
    target.begin()
    target.finish(build(target))
    return True
