"""An encoder in a model: media in, out the very stream that extraction would have cached."""

import json
from typing import Self

import torch
from torch import Tensor, nn

from .. import plugins
from ..errors import RecipeError
from ..extractors._encoder import Encoder
from ..extractors._features import Specification
from ..extractors._loading import made
from ..recipes.encoder_settings import UNTRAINED, EncoderSettings
from ..tensors import Stream
from .finetuning import resting, unfreeze


class EncoderStream(nn.Module):
    """Runs an encoder and keeps the layers that the recipe chose.

    Parameters
    ----------
    encoder : Encoder
    settings : EncoderSettings
    """

    def __init__(self, encoder: Encoder, settings: EncoderSettings) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.chosen = settings.request.layers.indices(encoder.n_layers)
        self.how = settings.how if len(self.chosen) > 1 else "apart"
        unfreeze(encoder, settings)

    @classmethod
    def build(cls, settings: EncoderSettings, *, seed: int) -> Self:
        """Make the encoder that a recipe names; random weights are drawn by the seed."""
        family = plugins.find("encoder", settings.name)
        # A name may come from a stranger's run folder: nothing but an encoder is called.
        if not (isinstance(family, type) and issubclass(family, Encoder)):
            raise RecipeError(f"{settings.name} is not an encoder")
        if faults := settings.faults(family.modality):
            raise RecipeError("; ".join(faults))
        if settings.checkpoint == UNTRAINED:
            return cls(family.untrained(seed=seed, **settings.options), settings)
        return cls(made(settings.request), settings)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step: ``(dim,)``, or ``(layers, dim)`` where layers are kept apart."""
        apart = self.how == "apart" and len(self.chosen) > 1
        return (len(self.chosen), self.encoder.dim) if apart else (self.encoder.dim,)

    @property
    def specification(self) -> Specification:
        """What the same features would be called in a cache."""
        layers = self.settings.request.layers
        return Specification(
            name=self.settings.request.name,
            modality=self.encoder.modality,
            dim=self.encoder.dim,
            rate=self.encoder.rate if layers.pool == "none" else None,
            identity=json.loads(json.dumps(self.encoder.identity())),
            layers=self.chosen,
            how=self.how,
            pool=layers.pool,
            dtype="float32",
        )

    @property
    def begins_random(self) -> bool:
        """Tell whether its first outputs say nothing of its later ones."""
        return self.settings.checkpoint == UNTRAINED and self.learns

    @property
    def learns(self) -> bool:
        """Tell whether any of its weights does."""
        return any(p.requires_grad for p in self.encoder.parameters())

    def train(self, mode: bool = True) -> Self:
        """Switch what learns; what is frozen stays as in prediction, dropout and norms too."""
        super().train(mode)
        for part in resting(self.encoder) if mode else []:
            part.eval()
        return self

    def forward(self, media: Stream) -> Stream:
        """Encode prepared media.

        Returns
        -------
        Stream
            Values of shape (batch, time, dim) or (batch, time, layers, dim).
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            layers = self.encoder(media)
            kept = [layers[i] for i in self.chosen]
            values = torch.stack([layer.values for layer in kept], dim=2).float()
            if self.how == "sum":
                values = values.sum(2)
            elif self.how == "mean" or len(kept) == 1:
                values = values.mean(2)
            found = Stream(values, kept[0].mask, kept[0].times)
            return pooled(found) if self.settings.pool == "mean" else found


def pooled(stream: Stream) -> Stream:
    """Return the mean over each clip's steps as its only step."""
    values, mask, times = stream
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    mean: Tensor = torch.einsum("bt,bt...->b...", share.to(values), values)
    there = mask.any(1, keepdim=True)
    middle = (share.nan_to_num() * times.nan_to_num()).sum(1, keepdim=True)
    return Stream(mean[:, None], there, middle.masked_fill(~there, torch.nan))
