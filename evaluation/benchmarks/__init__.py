"""The readers by name. Each module has `read(data, codes)`: the items of some languages, in the order of the owner's files.

`data` is the folder given as --data. It holds `iglue/` (a checkout of e-bug/iglue with the images beside the texts), `xm3600/`, `maxm/`,
`pope/` and `chair/`; which files are needed in each is in `benchmarks.json` and in docs/evaluation.md.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from evaluation.benchmarks import chair, marvl, maxm, pope, xflickrco, xgqa, xm3600, xvnli
from evaluation.records import BenchmarkError, Item, Missing, facts

READERS: dict[str, Callable[[Path, Sequence[str]], Iterable[Item]]] = {
    "xgqa": xgqa.read,
    "xvnli": xvnli.read,
    "marvl": marvl.read,
    "xflickrco": xflickrco.read,
    "xm3600": xm3600.read,
    "maxm": maxm.read,
    "pope": pope.read,
    "chair": chair.read,
}


def read(name: str, data: Path, codes: Sequence[str] | None = None) -> list[Item]:
    """The items of benchmark `name` in the languages `codes` (by default all that its files have). Raises BenchmarkError."""
    items = list(READERS[name](data, codes if codes is not None else facts()[name]["languages"]))
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise BenchmarkError(
                f"{name}: the item {item.id} is there twice under {data}. Is a file there in two versions?"
            )
        seen.add(item.id)
    return items


def check(name: str, data: Path, codes: Sequence[str] | None = None) -> tuple[int, list[Missing]]:
    """(items that can be asked, what is missing). Language by language, so that one missing file hides nothing else."""
    wanted = list(codes if codes is not None else facts()[name]["languages"])
    found, missing = 0, []
    expected = facts()[name].get("items")
    for code in wanted:
        try:
            items = read(name, data, [code])
        except BenchmarkError as error:
            missing.append(Missing("file", str(error), code))
            continue
        if not items:
            missing.append(Missing("language", f"no item in {code}", code))
            continue
        want = expected.get(code) if isinstance(expected, dict) else expected
        if want and len(items) != want:
            missing.append(
                Missing(
                    "records", f"{len(items)} items where the owner's files have {want}", code, abs(want - len(items))
                )
            )
        absent = sorted({str(path) for item in items for path in item.images if not path.is_file()})
        if absent:
            missing.append(Missing("image", f"{len(absent)} images, first {absent[0]}", code, len(absent)))
        gone = set(absent)
        found += sum(not any(str(path) in gone for path in item.images) for item in items)
    return found, missing
