"""Which licence a dataset inherits.

A built dataset contains its sources' images and texts, and translations by a model. Its card names one licence on
top, and that must be the most restrictive of all of them: whoever keeps to it keeps to the rest. The rank below is
coarse on purpose. It orders families (public domain, attribution, weak copyleft, share-alike, non-commercial, no
derivatives) and treats what it does not know as the most restrictive, so an unknown licence shows up as `other` with
a pointer, never as something more free than it is.

The full list of parts and their licences stands in the card. This is a label, not legal advice.
"""

import re

# Identifiers that the Hugging Face hub accepts in `license:`, by lower-case SPDX name, with their rank.
HUB_LICENCES = {
    "cc0-1.0": 0, "pddl": 0, "unlicense": 0, "wtfpl": 0,
    "mit": 1, "apache-2.0": 1, "bsd-2-clause": 1, "bsd-3-clause": 1, "isc": 1, "ofl-1.1": 1, "zlib": 1,
    "cc-by-2.0": 1, "cc-by-2.5": 1, "cc-by-3.0": 1, "cc-by-4.0": 1, "odc-by": 1,
    "mpl-2.0": 2, "lgpl-2.1": 2, "lgpl-3.0": 2,
    "cc-by-sa-3.0": 3, "cc-by-sa-4.0": 3, "odbl": 3, "gpl-2.0": 3, "gpl-3.0": 3, "agpl-3.0": 3,
    "cc-by-nc-2.0": 4, "cc-by-nc-3.0": 4, "cc-by-nc-4.0": 4,
    "cc-by-nc-sa-2.0": 5, "cc-by-nc-sa-3.0": 5, "cc-by-nc-sa-4.0": 5,
    "cc-by-nd-4.0": 6, "cc-by-nc-nd-3.0": 6, "cc-by-nc-nd-4.0": 6,
}  # fmt: skip
# Statements of rights instead of a licence, as museums and space agencies give them.
UNRESTRICTED = {"public domain", "no known copyright restrictions"}
# Permissive, but without an identifier on the hub: they never win against anything, and alone they are "other".
OTHER_PERMISSIVE = {"unicode-3.0", "unicode-dfs-2016", "psf-2.0", "hpnd"}
UNKNOWN = 7


def split(expression: str) -> list[str]:
    """The licences of an expression whose parts all apply: `"OFL-1.1 AND Unicode-3.0"` and `"CC0-1.0 (text), MIT
    (picture)"` give two each. A remark in brackets is dropped."""
    parts = re.split(r"\s+AND\s+|,\s*", expression.strip())
    return list(dict.fromkeys(name for part in parts if (name := re.sub(r"\s+\([^)]*\)$", "", part).strip("() "))))


def hub_identifier(licence: str) -> str:
    """The hub's spelling (`"MPL-2.0"` → `"mpl-2.0"`, `"LGPL-3.0-or-later"` → `"lgpl-3.0"`), or `"other"`."""
    name = re.sub(r"-(only|or-later)$", "", licence.lower())
    return name if name in HUB_LICENCES else "other"


def rank(licence: str) -> int:
    """How restrictive, 0 (public domain) to 7 (not known here)."""
    if licence.lower() in UNRESTRICTED:
        return 0
    if licence.lower() in OTHER_PERMISSIVE:
        return 1
    return HUB_LICENCES.get(hub_identifier(licence), UNKNOWN)


def inherit(model_licence: str, source_licences: list[str]) -> str:
    """The most restrictive licence of a dataset's parts; among equals the translation model's, which covers every
    text."""
    parts = split(model_licence) + sorted(part for licence in source_licences for part in split(licence))
    if not parts:
        return "unknown"
    return max(parts, key=rank)  # max keeps the first of equals


def link(licence: str) -> str | None:
    """The text of a licence, for those in SPDX's list."""
    known = hub_identifier(licence) != "other" or licence.lower() in OTHER_PERMISSIVE
    return f"https://spdx.org/licenses/{licence}.html" if known else None
