"""One of two processes that train together on the CPU; process `where` fails in or after step 3.

Prints what ended the run, and after how many steps.
"""

from __future__ import annotations

import torch
from ranked_command import take_rank
from test_training_state import EVERYTHING, PAIRS, PHOTOS
from toys import toy_unet

from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.result import Step


def main(rank: int, port: int, where: str) -> None:
    take_rank(rank, port)
    torch.distributed.init_process_group("gloo")
    unet, done = toy_unet(), 0

    def break_off(*_: object) -> None:
        if done == 2 and where == f"step of {rank}":
            raise RuntimeError("CUDA error: the card fell off the bus")

    def on_step(step: Step) -> None:
        nonlocal done
        done = step.number
        if done == 2 and where == f"watcher of {rank}":
            raise OSError("No space left on device")

    unet.mid_block.register_forward_hook(break_off)
    result = train_lora(unet, PHOTOS, EVERYTHING, on_step, crafting=PAIRS)
    print(f"{result.steps} steps, {type(result.stopped_by).__name__}: {result.stopped_by}")
    torch.distributed.destroy_process_group()
