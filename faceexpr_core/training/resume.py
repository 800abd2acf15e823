"""A run's state: all of a Trainer that is needed to go on to the bit, taken from it and put into another."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FaceExprError
from .draws import Standing
from .health import Health
from .optimizers import EIGHT_BIT, PLAIN, join_state, kind_of, optimizer_for, plain_state, split_state
from .precision import name_of
from .settings import TrainSettings
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
        "optimizer_name": update.optimizer_name,
        "computed_in": name_of(trainer.parts.dtype),
        "rates": [group["lr"] for group in update.optimizer.param_groups],
        "schedule": {name: value for name, value in update.rates.state_dict().items() if name != "lr_lambdas"},
        "scaler": update.scaler.state_dict(),
        "average_steps": 0 if update.average is None else update.average.optimization_step,
        "queues": standing.queues,
    }
    return RunState(trainer.steps_done, trainer.run, values, tensors)


def state_size(numbers: int, settings: TrainSettings, device: torch.device) -> int:
    """Bytes of a state of a run in which so many numbers learn, to a few per cent."""
    moments = 8.0 if optimizer_for(settings, device)[0] == PLAIN else 2.1
    return round(numbers * (4 + moments + (4 if settings.ema else 0)))


def go_on_from(trainer: Trainer, state: RunState, otherwise: str) -> None:
    """Put `state`, which must be of a run made as this one, into a trainer that has taken no step.

    Where this device, its libraries or another number of steps make the run go on otherwise than it began, that is added to the trainer's
    notes.
    Raises FaceExprError for a state that lacks something; `otherwise` says what the user can do then.
    """
    try:
        _put(trainer, state)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as reason:
        raise FaceExprError(
            f"The state of step {state.step} cannot be gone on with ({type(reason).__name__}: {reason}). "
            f"{otherwise[0].upper()}{otherwise[1:]}."
        ) from reason


def _put(trainer: Trainer, state: RunState) -> None:
    update = trainer.update
    with torch.no_grad():
        for index, weight in enumerate(update.parameters):
            weight.copy_(state.tensors[f"weight.{index}"])
        if update.average is not None:
            for index, weight in enumerate(update.average.shadow_params):
                weight.copy_(state.tensors[f"average.{index}"])
            update.average.optimization_step = state.values["average_steps"]
    _put_beginning(trainer, state)
    _put_optimizer(trainer, state)
    _put_length(trainer, state)
    _put_scaler(trainer, state)
    generators = {name: state.tensors[f"generator.{name}"] for name in trainer.draws.generators}
    trainer.before = Standing(generators, state.values["queues"])
    trainer.rewind()
    trainer.totals = state.tensors["totals"].tolist()
    trainer.curves = {name: state.tensors[f"curve.{name}"].tolist() for name in trainer.curves}
    trainer.health = Health(trainer.curves)
    trainer.steps_done = trainer.last_good_steps = state.step
    update.keep_as_good()


def _put_beginning(trainer: Trainer, state: RunState) -> None:
    """What is said of the first weights is how this run drew them, whatever is asked for now."""
    began = {name: state.run[name] for name in ("init_lora_weights",) if name in state.run}
    trainer.run = {**{name: value for name, value in trainer.run.items() if name != "init_lora_weights"}, **began}


def _put_optimizer(trainer: Trainer, state: RunState) -> None:
    """The run goes on with the optimiser that it began with; moments in 8 bits become whole ones where bitsandbytes is not there."""
    update = trainer.update
    moments = {key.removeprefix("optimizer."): tensor for key, tensor in state.tensors.items() if key.startswith("optimizer.")}
    entries = join_state(moments, state.values["optimizer"])
    began = state.values.get("optimizer_name") or kind_of(entries)
    if began == PLAIN and update.optimizer_name == EIGHT_BIT:
        update.use(PLAIN)
        trainer.notes += ("The run began with plain AdamW, before bitsandbytes was there, and goes on with it.",)
    elif began == EIGHT_BIT and update.optimizer_name == PLAIN:
        entries = plain_state(entries)
        trainer.notes += (
            "The run began with 8-bit AdamW and goes on with plain AdamW, its moments taken over; "
            "the LoRA will not be the same to the last digit as with 8-bit AdamW.",
        )
    groups = update.optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, state.values["rates"], strict=True):
        group["lr"] = rate
    update.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    update.rates.load_state_dict({**state.values["schedule"], "lr_lambdas": update.rates.state_dict()["lr_lambdas"]})


def _put_length(trainer: Trainer, state: RunState) -> None:
    """A run that was planned with another number of steps takes the learning rate of a run of its new length, from here on."""
    planned, steps = state.run.get("steps"), trainer.settings.steps
    if planned == steps:
        if state.step == steps:
            trainer.notes += (f"All {steps} steps were taken before; give more to go on.",)
        return
    update, schedule = trainer.update, trainer.settings.schedule
    before = update.optimizer.param_groups[0]["lr"]
    for group, base, factor in zip(update.optimizer.param_groups, update.rates.base_lrs, update.rates.lr_lambdas, strict=True):
        group["lr"] = base * factor(update.rates.last_epoch)
    update.rates._last_lr = [group["lr"] for group in update.optimizer.param_groups]
    now = update.optimizer.param_groups[0]["lr"]
    course = f"the learning rate, {before:.3g} there, follows {schedule} over {steps} steps from here: {now:.3g} now"
    same = "the learning rate is constant, so that the LoRA is that of a run planned so"
    settings = trainer.settings
    rises = bool(settings.crafting_weight) and settings.crafting_ramp > 0
    told = course if schedule != "constant" else "the learning rate is constant" if rises else same
    more = ""
    if rises and state.step <= settings.crafting_ramp * max(steps, planned or 0):
        more = f"; the weight of crafting rises over {settings.crafting_ramp:.0%} of {steps} steps"
    elif rises and planned:
        more = (
            f"; the weight of crafting rose over {settings.crafting_ramp * planned:.0f} steps, and would have over "
            f"{settings.crafting_ramp * steps:.0f} in a run planned so"
        )
    trainer.notes += (f"The run was planned with {planned} steps and goes on from {state.step} to {steps}: {told}{more}.",)


def _put_scaler(trainer: Trainer, state: RunState) -> None:
    """fp16's scale. A run that began in other numbers has none: it starts as a new run's does."""
    began, now = state.values.get("computed_in"), name_of(trainer.parts.dtype)
    if began not in (None, now):
        trainer.notes += (
            f"The run was computed in {began} so far and goes on in {now}, which is what this device gives; "
            "the LoRA will not be the same to the last digit.",
        )
    if state.values["scaler"]:
        trainer.update.scaler.load_state_dict(state.values["scaler"])
