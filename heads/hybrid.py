"""Hybrid loss: fused predictions, unimodal predictions, and a balance between the modalities.

Sun et al. 2025, AVERFormer (Digital Signal Processing 161, 105081): an audiovisual loss, unimodal losses, and a
divergence that balances similarity and disparity. The formula is not public. One term that attracts posteriors and one
that repels embeddings is our interpretation.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from ..errors import RecipeError, check_known
from ..tensors import IGNORE, Fused, Targets, Width
from . import _divergence as divergence
from ._head import Decoded, Head
from ._losses import Loss
from .joint import Joint

SIMILAR = {
    "js": divergence.jensen_shannon,
    "symkl": divergence.symmetric_kl,
    "mmd": divergence.mmd,
    "cmd": divergence.cmd,
    "none": None,
}
DIFFERENT = {"cos": divergence.cosine, "orth": divergence.orthogonality, "none": None}


class Hybrid(Head):
    r"""Fused and unimodal decoders with a loss that balances the modalities (Sun et al. 2025).

    .. math:: L = L_{av} + \lambda_u \sum_k \mathrm{CE}_k
              + \lambda_d \sum_{k<l} (L_{sim}^{kl} + \mu L_{dis}^{kl})

    The fused representation is decoded by `Joint` with its default options. Only clips that have both streams of a
    pair count in the divergence of the pair.

    Parameters
    ----------
    width : Width
        Width of a fusion that returns a vector of every stream.
    emotions, dimensions : sequence of str
        Targets to decode; the dimensions may be empty.
    unimodal_weight, divergence_weight, disparity_weight : float
        Weights :math:`\lambda_u, \lambda_d, \mu`.
    similar : {"js", "symkl", "mmd", "cmd", "none"}
        Divergence :math:`L_{sim}` that draws modalities together: of posteriors (the first two) or of embeddings.
    different : {"cos", "orth", "none"}
        Similarity :math:`L_{dis}` that keeps embeddings apart.
    temperature : float
        Temperature of the posteriors in :math:`L_{sim}`.
    embedding : int
        Width of the embeddings.
    loss : mapping
        Options of `heads._losses.Objective`.
    """

    def __init__(
        self,
        width: Width,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        unimodal_weight: float = 0.5,
        divergence_weight: float = 0.1,
        disparity_weight: float = 1.0,
        similar: str = "js",
        different: str = "cos",
        temperature: float = 1.0,
        embedding: int = 64,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(width, emotions, dimensions)
        check_known("similar", similar, SIMILAR)
        check_known("different", different, DIFFERENT)
        if not emotions or not width.streams:
            raise RecipeError(
                "The hybrid head needs emotions to decode and a fusion that returns a vector of every stream. "
                "Use head.name = 'joint' otherwise."
            )
        self.similar, self.different, self.temperature = similar, different, temperature
        self.unimodal_weight, self.divergence_weight = unimodal_weight, divergence_weight
        self.disparity_weight = disparity_weight
        self.fused = Joint(width, emotions, dimensions, loss=loss)
        self.names = list(width.streams)
        self.unimodal = nn.ModuleList(nn.Linear(n, len(self.emotions)) for n in width.streams.values())
        embedded = width.streams.values() if different != "none" or similar in ("mmd", "cmd") else ()
        self.embed = nn.ModuleList(nn.Linear(n, embedding) for n in embedded)

    def initialise(self, targets: Targets) -> None:
        self.fused.initialise(targets)

    def forward(self, fused: Fused) -> Decoded:
        decoded: Decoded = self.fused(fused)
        vectors = [fused.streams[name] for name in self.names]
        unimodal = {
            name: decode(vector) for name, decode, vector in zip(self.names, self.unimodal, vectors, strict=True)
        }
        embeddings = {
            f"embedding {name}": embed(vector)
            for name, embed, vector in zip(self.names, self.embed, vectors, strict=False)
        }
        present = torch.stack([vector.abs().sum(1) > 0 for vector in vectors], dim=1)
        extras = {**decoded.extras, **embeddings, "present": present}
        return decoded._replace(unimodal=unimodal, extras=extras)

    def loss(self, decoded: Decoded, targets: Targets) -> dict[str, Tensor]:
        parts = self.fused.loss(decoded, targets)
        total, present = parts["total"], decoded.extras["present"]
        for k, (name, logits) in enumerate(decoded.unimodal.items()):
            own = targets.emotion.masked_fill(~present[:, k], IGNORE)
            if bool((own != IGNORE).any()):
                parts[f"emotion {name}"] = self.fused.objective.emotion(logits, own)
                total = total + self.unimodal_weight * parts[f"emotion {name}"]
        similar, different = self._balance(decoded, present)
        parts |= {"similar": similar, "different": different}
        balance = similar + self.disparity_weight * different
        return parts | {"total": total + self.divergence_weight * balance}

    def _balance(self, decoded: Decoded, present: Tensor) -> tuple[Tensor, Tensor]:
        similar = different = decoded.logits.new_zeros(())
        for i, j in combinations(range(len(self.names)), 2):
            both = present[:, i] & present[:, j]
            if int(both.sum()) < 2:
                continue
            names = self.names[i], self.names[j]
            logits = [decoded.unimodal[n][both] / self.temperature for n in names]
            embeddings = [decoded.extras[f"embedding {n}"][both] for n in names if self.embed]
            attract, repel = SIMILAR[self.similar], DIFFERENT[self.different]
            if attract is not None:
                pair = logits if self.similar in ("js", "symkl") else embeddings
                similar = similar + attract(*pair)
            if repel is not None:
                different = different + repel(*embeddings)
        return similar, different


plugin = Hybrid
