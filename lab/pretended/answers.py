"""What `torch.cuda` answers while a card is pretended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from .attention import attention_on
from .tensors import CardGenerator, is_pinned, pin_memory, swap_tensors

if TYPE_CHECKING:
    from .ledger import Ledger

NAME = "NVIDIA GeForce RTX 4090 (pretended)"
CAPABILITY, WITHOUT_BF16 = (8, 9), (7, 5)


class Properties:
    """torch.cuda.get_device_properties, as far as ComfyUI and accelerate read it."""

    def __init__(self, total: int, bf16: bool) -> None:
        self.total_memory, (self.major, self.minor), self.multi_processor_count = total, CAPABILITY if bf16 else WITHOUT_BF16, 128
        self.name, self.gcnArchName, self.warp_size = NAME, "", 32


def stream_class(waited: Callable[[str], None]) -> type:
    """Streams and events, which are always done."""

    class Stream:
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.cuda_stream = 0

        def query(self) -> bool:
            return True

        def wait_stream(self, other: Any) -> None: ...

        def wait_event(self, event: Any) -> None: ...

        def record(self, stream: Any = None) -> None: ...

        def synchronize(self) -> None:
            waited("stream.synchronize")

        def elapsed_time(self, other: Any) -> float:
            return 1.0

    return Stream


def enter_answers(stack: contextlib.ExitStack, ledger: Ledger, total: int, bf16: bool, values: bool) -> None:
    """Put the answers in place until `stack` closes."""
    stream = stream_class(ledger.waited)
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: ledger.waited("torch.cuda.synchronize"),
        "is_bf16_supported": lambda including_emulation=True: bf16,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "reset_peak_memory_stats": lambda device=None: ledger.reset_peak(),
        "max_memory_reserved": lambda device=None: ledger.peak,
        "max_memory_allocated": lambda device=None: ledger.peak,
        "memory_allocated": lambda device=None: ledger.current,
        "memory_reserved": lambda device=None: ledger.current,
        "mem_get_info": lambda device=None: (max(total - ledger.current, 0), total),
        "memory_stats": lambda device=None: {"active_bytes.all.current": ledger.current, "reserved_bytes.all.current": ledger.current},
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: CAPABILITY,
        "get_device_properties": lambda device=None: Properties(total, bf16),
        "is_current_stream_capturing": lambda: False,
        "Stream": stream,
        "Event": stream,
        "current_stream": lambda device=None: stream(),
        "default_stream": lambda device=None: stream(),
        "stream": lambda stream: contextlib.nullcontext(),
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "get_rng_state_all": lambda: [],
        "set_rng_state_all": lambda states: None,
        "manual_seed_all": lambda seed: None,
        "manual_seed": lambda seed: None,
    }
    put = stack.enter_context
    for name, answer in answers.items():
        put(mock.patch.object(torch.cuda, name, answer))
    put(mock.patch.object(torch.Tensor, "pin_memory", pin_memory))
    put(mock.patch.object(torch.Tensor, "is_pinned", is_pinned))
    put(mock.patch("torch.utils.swap_tensors", swap_tensors))
    put(mock.patch("torch._subclasses.fake_tensor.init_gpu_context", lambda device: None))
    put(mock.patch.object(torch, "Generator", CardGenerator))
    put(mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", attention_on(values)))
    put(mock.patch.object(torch.amp.autocast_mode, "is_autocast_available", lambda kind: True, create=True))
    put(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
