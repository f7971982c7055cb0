"""Fine-tuning of an encoder: the trained weights (none, all, the last layers, LoRA) and their learning rates.

The learning rate decays over the layers as in the fine-tuning of language models (Howard & Ruder, ACL 2018; Clark et
al., ICLR 2020): the last layer has the encoder's learning rate, and each earlier layer has `layer_decay` times the
rate of the next.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import RecipeError
from ..recipes.encoder_settings import EncoderSettings


def encoder_layers(encoder: nn.Module) -> tuple[str, list[nn.Module]]:
    """Return the name of the list of an encoder's layers, and the layers from first to last.

    The layers are the list of equal modules with the most parameters, such as the blocks of a transformer.
    """
    best: tuple[int, str, list[nn.Module]] = (0, "", [])
    for name, module in encoder.named_modules():
        children = list(module.children())
        alike = len({type(child) for child in children}) == 1
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and alike:
            size = sum(p.numel() for p in module.parameters())
            best = max(best, (size, name, children), key=lambda found: found[0])
    return best[1], best[2]


def set_trainable(encoder: nn.Module, settings: EncoderSettings) -> None:
    """Make the weights trainable that the settings name; LoRA adds new weights."""
    _disable_random_layers(encoder)
    encoder.requires_grad_(settings.train == "all")
    if settings.train == "none":
        return
    place, layers = encoder_layers(encoder)
    if settings.n_last_layers is not None:
        if settings.n_last_layers > len(layers):
            raise RecipeError(
                f"encoders: train = {settings.train!r}, but {settings.name} has only {len(layers)} layers. Train fewer."
            )
        for parameter, depth in _depths(encoder, place, len(layers)):
            parameter.requires_grad_(depth > len(layers) - settings.n_last_layers)
    elif settings.train == "lora":
        _add_lora(encoder, place, settings)
    if settings.checkpointing:
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    if not any(p.requires_grad for p in encoder.parameters()):
        raise RecipeError(f"encoders: {settings.name} has no weights to train. Set train = 'none'.")


def parameter_groups(
    encoder: nn.Module, settings: EncoderSettings, *, rate: float, weight_decay: float
) -> Iterator[dict[str, Any]]:
    """Yield parameter groups for the optimizer: trainable parameters by depth, with and without weight decay."""
    place, layers = encoder_layers(encoder)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter, depth in _depths(encoder, place, len(layers)):
        if parameter.requires_grad:
            found.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    for (depth, decays), parameters in sorted(found.items(), key=lambda item: item[0]):
        yield {
            "params": parameters,
            "rate": settings.learning_rate_or(rate) * settings.layer_decay ** max(0, len(layers) - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }


def trained_names(encoder: nn.Module) -> set[str]:
    """Return the names in an encoder's state that training changes: trainable weights and their buffers.

    Buffers, such as the statistics of batch normalisation, change only in modules with trainable weights.
    """
    found = set()
    for name, module in encoder.named_modules():
        own = dict(module.named_parameters(recurse=False))
        trained = {key for key, parameter in own.items() if parameter.requires_grad}
        if trained:
            trained |= {key for key, _ in module.named_buffers(recurse=False)}
        found |= {f"{name}.{key}" if name else key for key in trained}
    return found & set(encoder.state_dict())


def _depths(encoder: nn.Module, place: str, n_layers: int) -> Iterator[tuple[nn.Parameter, int]]:
    """Yield parameters with their depth: 0 before the layers, 1 to `n_layers` in them, one more after them.

    Parameters lie after the layers if they are registered after them.
    """
    parameters = list(encoder.named_parameters())
    last = max((i for i, (name, _) in enumerate(parameters) if name.startswith(f"{place}.")), default=len(parameters))
    for i, (name, parameter) in enumerate(parameters):
        match = re.match(re.escape(place) + r"\.(\d+)\.", name)
        yield parameter, int(match[1]) + 1 if match else (n_layers + 1 if i > last else 0)


def _disable_random_layers(encoder: nn.Module) -> None:
    """Switch off SpecAugment, which draws outside torch's generator, and LayerDrop, which skips whole layers."""
    for module in encoder.modules():
        config = getattr(module, "config", None)
        for name, value in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(config, name):
                setattr(config, name, value)


def _add_lora(encoder: nn.Module, place: str, settings: EncoderSettings) -> None:
    """Add low-rank matrices to the linear modules of the layers (Hu et al., ICLR 2022)."""
    from ..extractors._torchvision import declare_missing_operators

    declare_missing_operators()
    try:
        import peft
    except ImportError:
        raise RecipeError("train = 'lora' needs peft, which is not installed: pip install affuse[finetune]") from None
    # torch's own attention reads the weight of its output projection directly and would ignore an adapter.
    ignored = {
        f"{name}.out_proj" for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)
    }
    targets = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{place}.") and name not in ignored
    ]
    if not targets:
        raise RecipeError(f"{settings.name} has no linear modules that LoRA could adapt. Use another value of train.")
    lora = peft.LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=targets)
    peft.inject_adapter_in_model(lora, encoder)


def frozen_modules(encoder: nn.Module) -> Sequence[nn.Module]:
    """Return the outermost modules without trainable weights, which stay in evaluation mode."""
    if not any(p.requires_grad for p in encoder.parameters()):
        return [encoder]
    found: list[nn.Module] = []
    for child in encoder.children():
        if any(True for _ in child.parameters()):
            found += frozen_modules(child)
    return found
