"""Length: a translation that is far shorter or longer than its source lost or invented something.

Languages differ: good Chinese is a third as long as its English, good Tamil a quarter longer. So beside the plain ratio stands how unusual it is for
its language, in standard deviations, from factors that `learn.py` took from real translations.
"""

import numpy as np
import pyarrow.compute as pc

from pipeline.quality.characters import Column, flat, numbers
from pipeline.quality.learnt import LengthFactor

SMOOTHING = 5
"""Characters added to both sides, so that one-word texts do not give wild ratios."""


def _log_ratios(sources: Column, texts: Column) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of each ratio, and the length of its source in characters."""
    source, text = numbers(pc.utf8_length(flat(sources))), numbers(pc.utf8_length(flat(texts)))
    return np.log((text + SMOOTHING) / (source + SMOOTHING)), source


def length_ratios(sources: Column, texts: Column) -> np.ndarray:
    """(characters of the text + 5) / (characters of its source + 5)."""
    return np.exp(_log_ratios(sources, texts)[0])


def spread(source_characters: np.ndarray, factor: LengthFactor) -> np.ndarray:
    """Standard deviation of the logarithm of good ratios for sources of these lengths: sqrt(base² + short² / (characters + 5)).

    Short texts vary more, as a sum of independent words does: its variance falls with its length.
    """
    return np.sqrt(factor.base**2 + factor.short**2 / (source_characters + SMOOTHING))


def length_deviations(sources: Column, texts: Column, factor: LengthFactor) -> np.ndarray:
    """How many standard deviations the logarithm of each ratio lies from the language's mean: negative is short, positive is long."""
    ratio, source = _log_ratios(sources, texts)
    return (ratio - factor.mean) / spread(source, factor)
