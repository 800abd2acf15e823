"""Cards that are not NVIDIA's latest: Intel's, Apple's, AMD's, the GTX 16 series; none is here, so that PyTorch's answers are pretended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from toys import toy_unet

from faceexpr_core.commands import train_job
from faceexpr_core.diffusers_host import pipeline, placement
from faceexpr_core.diffusers_host.devices import best_device, drawing_dtype
from faceexpr_core.diffusers_host.placement import bring_vae, fitting
from faceexpr_core.diffusers_host.training import open_host
from faceexpr_core.errors import FaceExprError
from faceexpr_core.fusion.injection import upload
from faceexpr_core.training import plan
from faceexpr_core.training.bits import NOT_TRIED, unusable
from faceexpr_core.training.memory import card_name, enough_memory, free_memory, give_back, is_out_of_memory, pinned, room_on
from faceexpr_core.training.plan import need_of
from faceexpr_core.training.precision import best_dtype, compute_dtype, precision_note
from faceexpr_core.training.ram import short_of_ram
from faceexpr_core.training.settings import preset_settings

CUDA, XPU, MPS, CPU = (torch.device(kind) for kind in ("cuda", "xpu", "mps", "cpu"))
GB = 1 << 30
WHOLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16


def nvidia(monkeypatch: pytest.MonkeyPatch, *cards: tuple[str, int]) -> None:
    """Cards by name and major capability; the first is the current one."""
    found = [SimpleNamespace(name=name, major=major, gcnArchName="") for name, major in cards]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found[torch.device(device).index or 0])


@pytest.mark.parametrize(
    ("name", "major", "best"),
    [
        ("NVIDIA GeForce RTX 4070", 8, BRAIN),
        ("NVIDIA A500", 8, BRAIN),
        ("NVIDIA GeForce RTX 2080 Ti", 7, HALF),
        ("NVIDIA GeForce GTX 1080", 6, HALF),
        ("NVIDIA GeForce GTX 1660 SUPER", 7, WHOLE),
        ("NVIDIA GeForce GTX 1650", 7, WHOLE),
        ("NVIDIA GeForce MX450", 7, WHOLE),
    ],
)
def test_nvidias_cards(monkeypatch: pytest.MonkeyPatch, name: str, major: int, best: torch.dtype) -> None:
    nvidia(monkeypatch, (name, major))
    assert compute_dtype("auto", CUDA) == best and compute_dtype("fp16", CUDA) == HALF
    assert (precision_note("auto", CUDA) is not None) is (best == WHOLE)
    assert drawing_dtype(CUDA) == (WHOLE if best == WHOLE else HALF)


def test_the_card_that_is_asked_for_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia(monkeypatch, ("NVIDIA GeForce RTX 2080", 7), ("NVIDIA GeForce RTX 4090", 8))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)  # of the current one
    assert [compute_dtype("auto", torch.device("cuda", number)) for number in (0, 1)] == [HALF, BRAIN]


@pytest.mark.parametrize(
    ("arch", "best"),
    [
        ("gfx1100", BRAIN),
        ("gfx1201", BRAIN),
        ("gfx90a:sramecc+:xnack-", BRAIN),
        ("gfx1032", HALF),
        ("gfx1010:xnack-", HALF),
        ("gfx906", HALF),
    ],
)
def test_amds_cards(monkeypatch: pytest.MonkeyPatch, arch: str, best: torch.dtype) -> None:
    """PyTorch says of all of them that they compute in bfloat16."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="AMD", major=10, gcnArchName=arch))
    assert best_dtype(CUDA) == best


@pytest.mark.parametrize("has", [True, False])
def test_intels_and_apples_cards(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: has)
    assert [best_dtype(device) for device in (XPU, MPS, CPU)] == [BRAIN if has else WHOLE] * 2 + [WHOLE]
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert best_dtype(MPS) == WHOLE


def test_a_card_that_computes_in_float32_takes_twice_the_memory_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = preset_settings("low-vram")
    usual = need_of(settings, 512)
    nvidia(monkeypatch, ("NVIDIA GeForce GTX 1660", 7))
    monkeypatch.setattr(plan, "unusable", lambda: None)
    assert need_of(settings, 512).parts["U-Net"] == 2 * usual.parts["U-Net"]


@pytest.fixture
def arc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of Intel's with 10 of 16 GB free, 2 of which PyTorch keeps, half of them in use."""
    answers: dict[str, Any] = {"is_available": lambda: True, "mem_get_info": lambda _: (10 * GB, 16 * GB), "empty_cache": lambda: None}
    answers |= {"memory_reserved": lambda _: 2 * GB, "memory_allocated": lambda _: GB, "get_device_name": lambda _: "Intel Arc A770"}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.xpu, name, answer)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)


def not_told(*_: object) -> NoReturn:
    raise RuntimeError("The device (Intel(R) Arc(TM) Graphics) doesn't support querying the available free memory.")


def test_the_memory_of_intels_cards_counts_where_they_tell(arc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(XPU) == 11 * GB and room_on(XPU, GB) == 11 * GB and room_on(XPU, 6 * GB) == 10 * GB
    assert card_name(XPU) == "Intel Arc A770, 10.0 of 16.0 GB free"
    monkeypatch.setattr(torch.xpu, "mem_get_info", not_told)
    assert free_memory(XPU) is None and room_on(XPU, GB) is None and card_name(XPU) == "Intel Arc A770"


def test_auto_reckons_there_with_what_was_tried(arc: None) -> None:
    assert unusable() == NOT_TRIED
    assert unusable(CPU) is None


@pytest.mark.parametrize("tells", [True, False])
def test_a_plan_for_intels_cards(arc: None, monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    monkeypatch.setattr(plan, "measured_tflops", lambda *_: 10.0)
    monkeypatch.setattr(torch.version, "cuda", None)
    if not tells:
        monkeypatch.setattr(torch.xpu, "mem_get_info", not_told)
    told = plan.plan_on(XPU, toy_unet(), "low-vram", preset_settings("low-vram"), 512)
    assert ("on Intel Arc A770, 10.0 of 16.0 GB free" in told) is tells and "CUDA" not in told
    assert "build for CUDA" in plan.slow(preset_settings("low-vram"), need_of(preset_settings("low-vram"), 512), CPU, None)


@pytest.mark.parametrize(
    "words", ["39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)", "40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)", "-5 (PI_ERROR_OUT_OF_RESOURCES)"]
)
def test_intels_words_for_no_memory(words: str) -> None:
    assert is_out_of_memory(RuntimeError(f"level_zero backend failed with error: {words}"))
    assert not is_out_of_memory(RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"))


@pytest.mark.parametrize(
    "reason",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to allocate 26214400 bytes."
        ),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"),
        MemoryError(),
    ],
)
def test_the_systems_memory_is_not_the_cards(reason: Exception) -> None:
    with pytest.raises(FaceExprError, match=r"^The system ran out of memory while drawing: .* page file") as told, enough_memory("drawing"):
        raise reason
    assert "nvidia-smi" not in str(told.value)
    with pytest.raises(FaceExprError, match=r"^The device ran out of memory .*nvidia-smi"), enough_memory("drawing"):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def test_pinned_memory_goes_back_and_where_there_is_none_plain_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append("card"))
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: called.append("host"), raising=False)
    give_back(CUDA)
    assert called == ["card", "host"]
    monkeypatch.delattr(torch._C, "_host_emptyCache")
    give_back(CUDA)
    give_back(CPU)
    assert called == ["card", "host", "card"]

    plain = torch.empty

    def short(*given: Any, pin_memory: bool = False, **named: Any) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return plain(*given, **named)

    monkeypatch.setattr(torch, "empty", short)
    assert pinned((2, 3), HALF).shape == (2, 3) and pinned((2, 3), HALF).dtype == HALF


def test_an_upload_without_pinned_memory_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[Any, ...]] = []

    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("CUDA error: out of memory")

    def move(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        moved.append((*given, *named))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    monkeypatch.setattr(torch.Tensor, "to", move)
    upload(torch.zeros(2), CUDA)
    assert moved == [(CUDA,)]


@pytest.mark.parametrize(
    ("there", "best"), [((), "cpu"), (("xpu",), "xpu"), (("mps", "xpu"), "mps"), (("cuda", "xpu"), "cuda"), (("npu",), "npu")]
)
@pytest.mark.parametrize("old", [False, True])
def test_the_best_device(monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], best: str, old: bool) -> None:
    for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps), ("xpu", torch.xpu)):
        monkeypatch.setattr(module, "is_available", lambda name=name: name in there)
    if old:
        monkeypatch.delattr(torch, "accelerator")
        best = best.replace("npu", "cpu")
    else:
        known = SimpleNamespace(type=there[-1]) if there else None
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: bool(there))
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: known)
    assert best_device() == best


class Part:
    """A part of a pipeline, wherever it is said to lie."""

    dtype = HALF
    tiled = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def to(self, device: Any) -> None:
        self.device = torch.device(device)

    def parameters(self) -> list[torch.Tensor]:
        return [torch.zeros(1)]

    def enable_tiling(self) -> None:
        self.tiled = True

    def disable_tiling(self) -> None:
        self.tiled = False


class Pipeline:
    def __init__(self, device: torch.device) -> None:
        self.unet, self.text_encoder, self.text_encoder_2, self.vae = (Part(device) for _ in placement.PARTS)


@pytest.mark.parametrize(("device", "counts"), [(MPS, False), (XPU, True), (CPU, False)])
def test_parts_take_turns_and_the_vae_works_in_tiles_where_no_free_memory_is_known(arc: None, device: torch.device, counts: bool) -> None:
    pipe: Any = Pipeline(device)
    placement.manage(pipe, device)
    bring_vae(pipe, "decode", 768, 768)
    known = counts or device == CPU
    assert pipe.vae.tiled is not known and pipe.vae.device == device
    assert pipe.unet.device == (device if known else CPU)
    assert (fitting(pipe, 3, 1, 64, 64) == 3) is known


@pytest.mark.parametrize(("cards", "nccl", "given"), [(True, True, {}), (True, False, {"backend": "gloo"}), (False, False, {})])
def test_processes_on_cards_speak_by_gloo_where_there_is_no_nccl(
    monkeypatch: pytest.MonkeyPatch, cards: bool, nccl: bool, given: dict[str, str]
) -> None:
    """As on Windows."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    assert train_job._backend("") == train_job._backend("cuda") == given and train_job._backend("cpu") == {}


@pytest.mark.parametrize("short", [True, False])
def test_a_model_that_has_no_room_in_the_systems_memory_is_told_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, short: bool
) -> None:
    class LoadedError(Exception):
        pass

    def load(*_: object, **__: object) -> NoReturn:
        raise LoadedError(caplog.text)

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=4 * GB if short else 64 * GB))
    monkeypatch.setattr(pipeline, "is_full_size", lambda path: True)
    monkeypatch.setattr(pipeline, "load_pipeline", load)
    with pytest.raises(LoadedError) as told:
        open_host("sdxl.safetensors", "", "fp16", XPU)
    assert ("The model takes 6.6 GB of the system's memory (RAM), of which 4.0 GB are free" in str(told.value)) is short


def test_where_the_system_does_not_say_what_is_free_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise OSError("no /proc")

    monkeypatch.setattr("psutil.virtual_memory", fail)
    assert short_of_ram("It", 1 << 50) is None
