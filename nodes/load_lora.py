"""A LoRA file of any of the four formats, onto MODEL and CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ..faceexpr_core.errors import FaceExprError
from .host.folders import embeddings_folder, stamp_of_lora
from .host.lora_patches import changed_modules, patches_of
from .host.models import require_sdxl
from .host.widgets import advanced, require_choices, shown_report

if TYPE_CHECKING:
    from ..faceexpr_core.lora.fit import Fit
    from ..faceexpr_core.lora.formats import Lora

NODE = "Load FaceExpr LoRA"
LEAVE, SAVE = "leave in the file", "save in the embeddings folder"


class LoadLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FaceExprLoadLoRA",
            display_name=NODE,
            category="FaceExpr",
            description="Loads a LoRA that kohya, diffusers, PEFT or ComfyUI wrote, and says what it could not use. "
            "(ComfyUI's own loader drops files of diffusers and PEFT without an error.)",
            inputs=[
                io.Model.Input("model", tooltip="The SDXL MODEL that the LoRA changes."),
                io.Combo.Input(
                    "lora_name",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A .safetensors file of the loras folder. For a PEFT adapter choose its adapter_model.safetensors; "
                    "its adapter_config.json must lie beside it.",
                ),
                io.Float.Input(
                    "strength_model",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How strongly the pictures follow it. 1 as trained, 0 not at all.",
                ),
                io.Float.Input(
                    "strength_clip",
                    default=1.0,
                    min=-20.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How strongly the reading of the prompt follows it; without effect on a LoRA for the MODEL alone.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="The CLIP of the same checkpoint, for LoRAs that change it too."),
                *advanced(
                    io.Combo.Input(
                        "embeddings",
                        options=[LEAVE, SAVE],
                        default=LEAVE,
                        tooltip="Some LoRAs carry embeddings, words that were learned together with them. Saved, they are files that a "
                        "prompt names: embedding:name. The report says which; nothing is overwritten.",
                    )
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the LoRA."),
                io.Clip.Output(display_name="clip", tooltip="The CLIP with the LoRA; nothing if none was connected."),
                io.String.Output(display_name="report", tooltip="What the file is, what was applied, and what could not be used."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None, **_: Any) -> tuple[int, ...]:
        return stamp_of_lora(lora_name)

    @classmethod
    def execute(
        cls,
        model: Any,
        lora_name: str,
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
        clip: Any = None,
        embeddings: str = LEAVE,
    ) -> io.NodeOutput:
        from ..faceexpr_core.lora.formats import load_whole

        require_sdxl(model, NODE)
        require_choices(cls, embeddings=embeddings)
        found = folder_paths.get_full_path("loras", lora_name)
        if found is None:
            raise FaceExprError(
                f"lora_name is {lora_name!r}, which is no file of the loras folder. Put it there, press R in the page and choose it."
            )
        lora = load_whole(Path(found))
        changed, changed_clip, report = apply(model, clip, lora, lora_name, strength_model, strength_clip, embeddings)
        return io.NodeOutput(changed, changed_clip, report, ui=shown_report(report))


def apply(
    model: Any, clip: Any, lora: Lora, name: str, strength_model: float, strength_clip: float, bundled: str = LEAVE
) -> tuple[Any, Any, str]:
    """MODEL and CLIP (or None) with the LoRA as ComfyUI's own patches, and the report. Raises FaceExprError for another model's LoRA."""
    from ..faceexpr_core.lora.fit import fit, fit_report, without
    from ..faceexpr_core.lora.names import comfyui_module

    targets, parts = comfy.lora.model_lora_keys_unet(model.model, {}), [model.model]
    if clip is not None:
        targets = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, targets)
        parts.append(clip.cond_stage_model)
    home = {key: part for part in parts for key in part.state_dict()}  # which has packed sizes where weights are quantised (GGUF)
    wanted = {module: targets.get(comfyui_module(module)) for module in lora.modules}
    sizes = {module: comfy.utils.get_attr(home[key], key).shape for module, key in wanted.items() if key in home}
    found = fit(lora, sizes)
    words_alone = bool(lora.embeddings) and not lora.modules
    if not words_alone:
        _require_usable(lora, found, name, clip is not None)
    words = _embeddings(lora, name, bundled, words_alone)
    patches = patches_of(found.usable, targets) if found.usable.modules else {}
    changed, changed_clip = model.clone(), None
    used = set(changed.add_patches(patches, strength_model))
    if clip is not None:
        changed_clip = clip.clone()
        used |= set(changed_clip.add_patches(patches, strength_clip))
    idle = set(found.usable.modules) - changed_modules(found.usable, targets, used)
    if idle:
        found = without(lora, {**found.left_out, "ComfyUI took none of their weights": sorted(idle)})
        _require_usable(lora, found, name, clip is not None)
    report = fit_report(name, lora, found, strength_model, strength_clip, clip is not None)
    return changed, changed_clip, "\n".join(filter(None, [report, words]))


def _require_usable(lora: Lora, found: Fit, name: str, clip: bool) -> None:
    """Raise FaceExprError for a LoRA of which nothing, or only what happens to have the same size, fits."""
    if not clip and lora.modules and all(not module.startswith("unet.") for module in lora.modules):
        raise FaceExprError(f"{NODE}: {name} changes only the CLIP, and none is connected. Connect the CLIP of the same checkpoint.")
    if found.odd and not found.usable.modules and not found.sized:
        raise FaceExprError(
            f"{NODE}: nothing of {name} can be applied ({found.reasons()}). "
            "Choose a LoRA, DoRA, LoHa, LoKr, GLoRA or OFT file, or have this one's trainer save it as one."
        )
    if found.other_family:
        raise FaceExprError(
            f"{NODE}: {name} was made for {lora.family()} and does not fit this MODEL ({len(found.usable.modules)} of its "
            f"{len(lora.modules)} layers would{f'; {found.reasons()}' if found.odd else ''}). "
            "Choose a LoRA trained on this kind of model: SDXL, or FaceExpr Mini for Mini."
        )


def _embeddings(lora: Lora, name: str, bundled: str, alone: bool) -> str:
    """What the report says of the embeddings in the file, which are saved if that is chosen."""
    from ..faceexpr_core.lora.embeddings import save_embeddings
    from ..faceexpr_core.lora.fit import carried

    if not lora.embeddings:
        return ""
    if bundled == SAVE:
        saved = save_embeddings(lora.embeddings, embeddings_folder())
        words = ", ".join(f"embedding:{path.stem}" for path in saved.values())
        return f"{carried(lora)}\nsaved in {embeddings_folder()}; write in the prompt: {words}"
    advice = f"choose embeddings '{SAVE}' to have them as files, and write embedding:name in the prompt"
    if alone:
        raise FaceExprError(f"{NODE}: {name} holds no LoRA, only this: {carried(lora)}; {advice}.")
    return f"NOT USED: {carried(lora)}; {advice}"
