"""Length ratio: a translation that is far shorter or longer than its source lost or invented something."""

SMOOTHING = 5
"""Characters added to both sides, so that one-word texts do not give wild ratios."""


def length_ratio(source: str, text: str) -> float:
    """(characters of `text` + 5) / (characters of `source` + 5). Good text is near 0.4 for Chinese and up to about 2 elsewhere."""
    return (len(text) + SMOOTHING) / (len(source) + SMOOTHING)
