"""Which of an encoder's weights learn, and how fast: none, all, the last layers, or LoRA.

Layer-wise decay as in fine-tuning BERT (Howard & Ruder, ACL 2018; Clark et al., ICLR 2020): the
last layer learns at the encoder's rate, each one before it at `layer_decay` times the next.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import RecipeError
from ..recipes.encoder_settings import EncoderSettings


def blocks(encoder: nn.Module) -> tuple[str, list[nn.Module]]:
    """Return an encoder's layers, first to last, and the name of the list that holds them.

    They are the largest list of modules of one kind, by parameters: a transformer's layers.
    """
    best: tuple[int, str, list[nn.Module]] = (0, "", [])
    for name, module in encoder.named_modules():
        children = list(module.children())
        alike = len({type(child) for child in children}) == 1
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and alike:
            size = sum(p.numel() for p in module.parameters())
            best = max(best, (size, name, children), key=lambda found: found[0])
    return best[1], best[2]


def unfreeze(encoder: nn.Module, settings: EncoderSettings) -> None:
    """Let an encoder learn as much as the recipe says; with LoRA it gets new weights.

    Raises
    ------
    RecipeError
        More layers than there are, nothing to learn, or LoRA without peft.
    """
    _steady(encoder)
    encoder.requires_grad_(settings.train == "all")
    if settings.train == "none":
        return
    place, layers = blocks(encoder)
    if settings.n_last is not None:
        if settings.n_last > len(layers):
            raise RecipeError(f"encoders: train = {settings.train!r}, {settings.name} has {len(layers)} layers")
        for name, parameter in encoder.named_parameters():
            depth = _depth(name, place, len(layers), _order(encoder, place))
            parameter.requires_grad_(depth >= len(layers) - settings.n_last + 1)
    elif settings.train == "lora":
        _add_lora(encoder, place, settings)
    if settings.checkpointing:
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    if not any(p.requires_grad for p in encoder.parameters()):
        raise RecipeError(f"encoders: {settings.name} has no weights to train; say train = 'none'")


def groups(
    encoder: nn.Module, settings: EncoderSettings, *, rate: float, weight_decay: float
) -> Iterator[dict[str, Any]]:
    """Yield the optimizer's groups of an encoder: parameters of one depth, decaying or not."""
    place, layers = blocks(encoder)
    order = _order(encoder, place)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            depth = _depth(name, place, len(layers), order)
            found.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    for (depth, decays), parameters in sorted(found.items(), key=lambda item: item[0]):
        below = max(0, len(layers) - depth)
        yield {
            "params": parameters,
            "rate": settings.rate(rate) * settings.layer_decay**below,
            "weight_decay": weight_decay if decays else 0.0,
        }


def trained_names(encoder: nn.Module) -> set[str]:
    """Return the names of an encoder's state that training changes: weights that learn, buffers.

    Buffers, such as a batch norm's, change only beside a weight that learns.
    """
    found = set()
    for name, module in encoder.named_modules():
        own = dict(module.named_parameters(recurse=False))
        learnt = {key for key, parameter in own.items() if parameter.requires_grad}
        if learnt:
            learnt |= {key for key, _ in module.named_buffers(recurse=False)}
        found |= {f"{name}.{key}" if name else key for key in learnt}
    return found & set(encoder.state_dict())


def _order(encoder: nn.Module, place: str) -> set[str]:
    """Return the names of the parameters that the library registers behind the layers."""
    names = [name for name, _ in encoder.named_parameters()]
    last = max((i for i, n in enumerate(names) if n.startswith(f"{place}.")), default=len(names))
    return set(names[last + 1 :])


def _depth(name: str, place: str, n_layers: int, behind: set[str]) -> int:
    """Return 0 before the layers, 1 to `n_layers` in them, one more behind them."""
    match = re.match(re.escape(place) + r"\.(\d+)\.", name)
    if match:
        return int(match[1]) + 1
    return n_layers + 1 if name in behind else 0


def _steady(encoder: nn.Module) -> None:
    """Switch off what draws outside torch's generator, or leaves whole layers without gradient."""
    for module in encoder.modules():
        config = getattr(module, "config", None)
        for name, value in (("apply_spec_augment", False), ("layerdrop", 0.0)):
            if hasattr(config, name):
                setattr(config, name, value)


def _add_lora(encoder: nn.Module, place: str, settings: EncoderSettings) -> None:
    """Put low-rank matrices beside the linear maps of the layers (Hu et al., ICLR 2022)."""
    from ..extractors._torchvision import mend

    mend()
    try:
        import peft
    except ImportError:
        raise RecipeError("train = 'lora' needs peft, which is not installed: pip install affuse[finetune]") from None
    # torch's own attention reads its output map's weight directly, past anything put beside it.
    passed = {
        f"{name}.out_proj" for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)
    }
    targets = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{place}.") and name not in passed
    ]
    if not targets:
        raise RecipeError(f"{settings.name} has no linear maps that LoRA could stand beside")
    lora = peft.LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=targets)
    peft.inject_adapter_in_model(lora, encoder)


def resting(encoder: nn.Module) -> Sequence[nn.Module]:
    """Return the outermost parts in which nothing learns: they stay as in prediction."""
    if not any(p.requires_grad for p in encoder.parameters()):
        return [encoder]
    found: list[nn.Module] = []
    for child in encoder.children():
        if any(True for _ in child.parameters()):
            found += resting(child)
    return found


@torch.no_grad()
def n_parameters(module: nn.Module) -> tuple[int, int]:
    """Return how many parameters learn, and how many there are."""
    every = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, learns in every if learns), sum(n for n, _ in every)
