"""The training loop: a private U-Net and encoded photos in, a LoRA out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..errors import FaceExprError
from .crafting import CraftingSet
from .data import TrainingSet
from .materials import Materials
from .memory import (
    SYSTEM_SHORT,
    enough_memory,
    first_line,
    is_out_of_memory,
    is_the_systems,
    knows_nf4,
    memory_in_use,
    reset_peak,
    to_close,
)
from .precision import name_of, summed_in_float32
from .processes import together
from .result import Step, TrainResult
from .resume import go_on_from, state_of, state_size
from .settings import TrainSettings
from .start import Start
from .state import StateFolder
from .text_encoders import TextEncoders
from .trainer import Trainer
from .update import Diverged

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

log = logging.getLogger(__name__)


def train_lora(
    unet: UNet2DConditionModel,
    data: TrainingSet,
    settings: TrainSettings,
    on_step: Callable[[Step], None] | None = None,
    device: torch.device | str | None = None,
    *,
    class_images: TrainingSet | None = None,
    crafting: CraftingSet | None = None,
    states: StateFolder | None = None,
    encoders: TextEncoders | None = None,
    on_start: Callable[[tuple[str, ...]], None] | None = None,
    start: Start | None = None,
) -> TrainResult:
    """Learn a LoRA on the attention projections (to_q, to_k, to_v, to_out) of the transformers that `settings.blocks` names.

    Minimises L = L_id + lambda_pr L_prior + lambda_ec L_ec (see `losses`): L_id over photos in shuffled epochs, L_prior over
    `class_images` likewise (prior images) or with the class's prompts of `crafting` (prior distill), L_ec with the pairs
    of `crafting`; t ~ U{0..999} of SDXL's scaled-linear schedule, U{300..700} for L_ec. eps_0 comes from the same U-Net with the LoRA
    switched off. All randomness comes from CPU generators with `settings.seed`, one for each part of the loss, so that the losses do not
    depend on the host, and L_id sees the same noise whatever else is on.

    With `states` the run's state is written there as it goes, at the end, and when something stops it, and an earlier run of the same
    settings is gone on with: the LoRA is then the same as without the stop, on a CPU to the bit (a card's attention does not repeat its
    rounding). With another number of steps than it was planned with the run is lengthened. Call `states.finish()` once the LoRA is saved,
    and hold the folder meanwhile (`state_lock.alone_in`). A state that cannot be written is told in the log, and costs no more than itself.
    Where torch.distributed is set up (by accelerate), the processes share the batches of each step, and the first writes.

    With `settings.text_encoder` the attention projections of `encoders` learn too, and every prompt is encoded anew in each step, from
    the tokens that the sets then must hold; eps_0 keeps the base's embeddings. `encoders` are left alone otherwise. `start` is a LoRA
    whose layers are the first weights; the optimiser starts without moments.

    `unet` must be a copy that nobody else uses: it is moved to `device` (default: where it is), cast, and keeps the adapter.
    Whatever stops the run after the first step, an exception of `on_step` included, is handed back in `TrainResult.stopped_by`
    beside the LoRA learned so far; before that it is raised. `on_start` is told before the first step what will be done otherwise than
    asked, in words (`TrainResult.notes`). Raises FaceExprError when `data` does not fit `unet` or lacks what the settings need, when an
    earlier run's settings differ or its state cannot be read, when memory is short, and when the disk has no room for the states.
    """
    with torch.inference_mode(False), torch.enable_grad(), summed_in_float32():
        target = torch.device(device) if device is not None else unet.device
        reset_peak(target)
        with enough_memory("setting up the training"):
            trainer = Trainer(Materials(unet, data, class_images, crafting, encoders, start), settings, target)
            states = _begun(trainer, states)
        if on_start is not None:
            on_start(trainer.notes)
        first, started, due = trainer.steps_done, time.monotonic(), False
        stopped_by: BaseException | None = None
        try:
            while trainer.steps_done < settings.steps:
                losses = trainer.step()
                done = trainer.steps_done
                due = due or (states is not None and done % states.every == 0)
                if states is not None and (trainer.healthy if done == settings.steps else due and trainer.health.good):
                    _keep(states, trainer)
                    due = False
                if on_step is not None:
                    told = Step(
                        number=done,
                        total=settings.steps,
                        loss=trainer.totals[-1],
                        learning_rate=trainer.learning_rate,
                        unet=unet,
                        losses=losses,
                        taken=done - first,
                        seconds=time.monotonic() - started,
                        memory=memory_in_use(trainer.device),
                        embed=trainer.embed if trainer.text_layers else None,
                    )
                    on_step(told)
        except BaseException as reason:
            if isinstance(reason, Exception) and not isinstance(reason, Diverged) and trainer.steps_done < settings.steps:
                trainer.fail(reason)  # all processes diverge together, and hear Ctrl-C themselves
            stopped_by = _out_of_memory(reason, trainer) if is_out_of_memory(reason) else reason
            if states is not None:
                if isinstance(reason, Diverged):
                    states.drop_after(trainer.steps_done)
                elif trainer.rewind() and trainer.steps_done > max(first, earlier := states.newest()) and (trainer.healthy or not earlier):
                    _keep(states, trainer, whatever=True)
            if trainer.steps_done == 0:
                if stopped_by is reason:
                    raise
                raise stopped_by from reason
        return TrainResult(
            layers=trainer.lora_layers(),
            alpha=settings.effective_alpha,
            losses=tuple(trainer.totals),
            steps=trainer.steps_done,
            stopped_by=stopped_by,
            curves={name: tuple(values) for name, values in trainer.curves.items()},
            notes=trainer.notes,
            optimizer=trainer.update.optimizer_name,
            precision=name_of(trainer.parts.dtype),
            run=trainer.run,
        )


def _begun(trainer: Trainer, states: StateFolder | None) -> StateFolder | None:
    """Go on with an earlier run, or make room for this one. Returns the folder where this process writes, None where it does not."""
    if states is None:
        return None
    with together("reading the run's state"):  # all have read before the first clears the folder
        earlier = states.to_resume(trainer.run)
    if earlier is not None:
        go_on_from(trainer, earlier, states.wording.otherwise)
    if trainer.rank != 0:
        return None
    if earlier is None:
        states.clear()
    numbers = sum(weight.numel() for weight in trainer.update.parameters)
    states.require_space(state_size(numbers, trainer.settings, trainer.device), trainer.settings.steps)
    return states


def _keep(states: StateFolder, trainer: Trainer, whatever: bool = False) -> None:
    """Write the run's state. What prevents it (disk, memory, another library's state) is told and costs no more than this state.

    With `whatever` nor does a second Ctrl-C, after the first has ended the run.
    """
    try:
        states.write(state_of(trainer))
    except BaseException as reason:
        if not whatever and not isinstance(reason, Exception):
            raise
        told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        log.warning("The state of step %d could not be saved in %s: %s", trainer.steps_done, states.path, told)


def _out_of_memory(reason: BaseException, trainer: Trainer) -> FaceExprError:
    settings = trainer.settings
    what = f"while training (batch size {settings.batch_size}, rank {settings.rank}): {first_line(reason)}"
    if is_the_systems(reason):
        return FaceExprError(f"The system ran out of memory {what} {SYSTEM_SHORT}")
    free = "" if trainer.checkpoints else ", or switch gradient checkpointing on,"
    less = (
        *(("base nf4",) if settings.base == "full" and knows_nf4(reason) else ()),
        *(("batch size 1 with more accumulation",) if settings.batch_size > 1 else ()),
        "smaller photos",
        "a lower rank",
    )
    return FaceExprError(
        f"The device ran out of memory {what} Close {to_close(reason)}{free} and run the same again. "
        f"What needs less is another run, and wants another name: {', or '.join(less)}."
    )
