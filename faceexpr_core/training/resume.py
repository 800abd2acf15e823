"""A run's state: all of a Trainer that is needed to go on to the bit, taken from it and put into another."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Standing
from .optimizers import join_state, split_state
from .state import RunState
from .trainer import Trainer


def state_of(trainer: Trainer) -> RunState:
    """The state as it is now; its tensors are the trainer's own, on its device."""
    update = trainer.update
    moments, others = split_state(update.optimizer)
    tensors: dict[str, Tensor] = {f"weight.{index}": weight for index, weight in enumerate(update.parameters)}
    tensors |= {f"optimizer.{path}": tensor for path, tensor in moments.items()}
    if update.average is not None:
        tensors |= {f"average.{index}": weight for index, weight in enumerate(update.average.shadow_params)}
    standing = trainer.draws.standing()
    tensors |= {f"generator.{name}": state for name, state in standing.generators.items()}
    tensors |= {f"curve.{name}": torch.tensor(values, dtype=torch.float64) for name, values in trainer.curves.items()}
    tensors["totals"] = torch.tensor(trainer.totals, dtype=torch.float64)
    values = {
        "optimizer": others,
        "rates": [group["lr"] for group in update.optimizer.param_groups],
        "schedule": {name: value for name, value in update.rates.state_dict().items() if name != "lr_lambdas"},
        "scaler": update.scaler.state_dict(),
        "average_steps": 0 if update.average is None else update.average.optimization_step,
        "queues": standing.queues,
    }
    return RunState(trainer.steps_done, trainer.run, values, tensors)


def go_on_from(trainer: Trainer, state: RunState) -> None:
    """Put `state`, which must be of a run made as this one, into a trainer that has taken no step."""
    update = trainer.update
    with torch.no_grad():
        for index, weight in enumerate(update.parameters):
            weight.copy_(state.tensors[f"weight.{index}"])
        if update.average is not None:
            for index, weight in enumerate(update.average.shadow_params):
                weight.copy_(state.tensors[f"average.{index}"])
            update.average.optimization_step = state.values["average_steps"]
    moments = {key.removeprefix("optimizer."): tensor for key, tensor in state.tensors.items() if key.startswith("optimizer.")}
    entries = join_state(moments, state.values["optimizer"])
    groups = update.optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, state.values["rates"], strict=True):
        group["lr"] = rate
    update.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    update.rates.load_state_dict({**state.values["schedule"], "lr_lambdas": update.rates.state_dict()["lr_lambdas"]})
    update.scaler.load_state_dict(state.values["scaler"])
    generators = {name: state.tensors[f"generator.{name}"] for name in trainer.draws.generators}
    trainer.before = Standing(generators, state.values["queues"])
    trainer.rewind()
    trainer.totals = state.tensors["totals"].tolist()
    trainer.curves = {name: state.tensors[f"curve.{name}"].tolist() for name in trainer.curves}
    trainer.steps_done = trainer.last_good_steps = state.step
    update.keep_as_good()
