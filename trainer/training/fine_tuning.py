"""What of a network a step trains, and the pull back to where it started."""

from __future__ import annotations

import re
from collections.abc import Mapping

from paddle import Tensor, nn

from trainer.config import TrainConfig

# theta_i: what each category has of its own; everything else is theta, shared by all.
_OF_CATEGORIES = re.compile(r"scorer\._layers\.\d+\._(down|up|bias)\.weight|scorer\._affine\..+")


def is_of_categories(parameter: str) -> bool:
    """Return whether a parameter's rows belong to single categories: adapters, scale and bias."""
    return _OF_CATEGORIES.fullmatch(parameter) is not None


def is_shared_frozen(config: TrainConfig, step: int, total: int) -> bool:
    """Return whether a step trains the categories' own parameters alone.

    Args:
        config: `train_only` freezes the shared ones throughout, `frozen_share` at first.
        step: From 0.
        total: Steps of the whole run.
    """
    return config.train_only == "adapters" or step < config.frozen_share * total


def freeze_shared(network: nn.Layer, *, frozen: bool) -> None:
    """Let gradients reach the shared parameters, or not.

    An optimiser leaves a parameter that no gradient reaches exactly as it is.
    """
    for name, parameter in network.named_parameters():
        parameter.stop_gradient = frozen and not is_of_categories(name)


def pull_to_start(network: nn.Layer, start: Mapping[str, Tensor], strength: float) -> None:
    """Add the gradient of L2-SP (Li, Grandvalet and Davoine 2018, eq. 3) to those there are.

    The penalty is strength / 2 * ||w - w0||^2, w0 being the weights that training started from;
    its gradient is strength * (w - w0). Parameters without a gradient get none.
    """
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            pull = strength * (parameter.detach() - start[name])
            parameter.grad = parameter.grad + pull
