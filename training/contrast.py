"""The contrast that teaches small eyes: in a batch, an image and its text are to be each other's nearest."""

from torch import Tensor
from torch.nn import functional


def contrast(images: Tensor, texts: Tensor, middle: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy from images to texts and from texts to images (CLIP, Radford et al. 2021), nats, a scalar.

    `images`, `texts`: vectors of the pairs (pairs, width), compared by cosine around `middle` (width,), since word embeddings share a large mean.
    `log_scale`: logarithm of the inverse temperature. `target`: for each row its text's place (pairs,), or shares of several (pairs, pairs).
    """
    directions = [functional.normalize(vectors - middle, dim=1) for vectors in (images, texts)]
    similarity = directions[0] @ directions[1].T * log_scale.exp()
    return (functional.cross_entropy(similarity, target) + functional.cross_entropy(similarity.T, target)) / 2
