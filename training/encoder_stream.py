"""An encoder inside a model: from media to the same stream that extraction would have stored."""

import json
from typing import Any, Self

import torch
from torch import Tensor, nn

from .. import plugins
from ..errors import RecipeError
from ..extractors._encoder import Encoder
from ..extractors._loading import build_encoder
from ..extractors._request import Specification
from ..recipes.encoder_settings import UNTRAINED, EncoderSettings
from ..tensors import Stream
from .finetuning import frozen_modules, parameter_groups, set_trainable, trained_names


class EncoderStream(nn.Module):
    """Runs an encoder and keeps the layers that the recipe selects."""

    def __init__(self, encoder: Encoder, settings: EncoderSettings) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        self.layers = settings.request.layers.indices(encoder.n_layers)
        self.how = settings.how if len(self.layers) > 1 else "apart"
        set_trainable(encoder, settings)

    @classmethod
    def build(cls, settings: EncoderSettings, *, seed: int) -> Self:
        """Build the encoder that a recipe names; random weights are drawn with the seed."""
        family = plugins.find("encoder", settings.name)
        # The name may come from an untrusted run: only an encoder may be called.
        if not (isinstance(family, type) and issubclass(family, Encoder)):
            raise RecipeError(f"{settings.name} is not an encoder. `affuse list encoders` shows the encoders.")
        if problems := settings.problems(family.modality):
            raise RecipeError("\n".join(problems))
        if settings.checkpoint == UNTRAINED:
            return cls(family.untrained(seed=seed, **settings.options), settings)
        return cls(build_encoder(settings.request), settings)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step: ``(dim,)``, or ``(layers, dim)`` where layers are kept apart."""
        apart = self.how == "apart" and len(self.layers) > 1
        return (len(self.layers), self.encoder.dim) if apart else (self.encoder.dim,)

    @property
    def specification(self) -> Specification:
        """The specification that the same features would have in a store."""
        layers = self.settings.request.layers
        return Specification(
            name=self.settings.request.name,
            modality=self.encoder.modality,
            dim=self.encoder.dim,
            rate=self.encoder.rate if layers.pool == "none" else None,
            identity=json.loads(json.dumps(self.encoder.identity())),
            layers=self.layers,
            how=self.how,
            pool=layers.pool,
            dtype="float32",
        )

    @property
    def is_trained(self) -> bool:
        """Whether any weight of the encoder is trained."""
        return any(p.requires_grad for p in self.encoder.parameters())

    @property
    def starts_random(self) -> bool:
        """Whether the encoder is trained from random weights, so that statistics of its first output say nothing."""
        return self.settings.checkpoint == UNTRAINED and self.is_trained

    def frozen_names(self) -> set[str]:
        """Return the names in the encoder's state that its checkpoint restores."""
        if self.settings.checkpoint == UNTRAINED:
            return set()
        return set(self.encoder.state_dict()) - trained_names(self.encoder)

    def parameter_groups(self, *, rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the parameter groups of the encoder for the optimizer; see `finetuning.parameter_groups`."""
        return list(parameter_groups(self.encoder, self.settings, rate=rate, weight_decay=weight_decay))

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode; frozen modules stay in evaluation mode, with their dropout and norms."""
        super().train(mode)
        for module in frozen_modules(self.encoder) if mode else []:
            module.eval()
        return self

    def forward(self, media: Stream) -> Stream:
        """Encode prepared media into values of shape (batch, time, dim) or (batch, time, layers, dim)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.is_trained):
            outputs = self.encoder(media)
            layers = [outputs[i] for i in self.layers]
            values = torch.stack([layer.values for layer in layers], dim=2).float()
            if self.how == "sum":
                values = values.sum(2)
            elif self.how == "mean" or len(layers) == 1:
                values = values.mean(2)
            stream = Stream(values, layers[0].mask, layers[0].times)
            return mean_over_time(stream) if self.settings.pool == "mean" else stream


def mean_over_time(stream: Stream) -> Stream:
    """Return the mean over the steps of each clip as its only step."""
    values, mask, times = stream
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    mean: Tensor = torch.einsum("bt,bt...->b...", share.to(values), values)
    present = mask.any(1, keepdim=True)
    middle = (share.nan_to_num() * times.nan_to_num()).sum(1, keepdim=True)
    return Stream(mean[:, None], present, middle.masked_fill(~present, torch.nan))
