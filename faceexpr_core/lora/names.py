"""How LoRA files spell the modules of Stable Diffusion, and one spelling for all: diffusers' module path after the part's name.

`unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q`, `text_encoder_2.text_model.encoder.layers.3.mlp.fc1`.
"""

from __future__ import annotations

import re

PARTS = ("unet", "text_encoder", "text_encoder_2")
TEXT_WIDTHS = {96: "FaceExpr Mini", 768: "SD 1.x", 1024: "SD 2.x", 1280: "the SDXL refiner", 2048: "SDXL"}
"""Width of the text that a U-Net's cross-attention takes, by which families of models are told apart."""

_RESNETS_PER_BLOCK = 2
_KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
_COMFYUI = {
    "unet": "diffusion_model.",
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
}
_PREFIXES = (
    *(("kohya", prefix, part) for part, prefix in _KOHYA.items()),
    ("kohya", "lora_te_", "text_encoder"),
    ("kohya", "lycoris_", "unet"),
    *(("comfyui", prefix, part) for part, prefix in _COMFYUI.items()),
)

_WITH_UNDERSCORES = (
    "down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block|transformer_blocks|to_q|to_k|to_v|to_out|proj_in|"
    "proj_out|conv_in|conv_out|conv_norm_out|conv_shortcut|time_emb_proj|time_embedding|add_embedding|linear_1|linear_2|time_embed|"
    "label_emb|in_layers|out_layers|emb_layers|skip_connection|text_model|self_attn|q_proj|k_proj|v_proj|out_proj|layer_norm1|"
    "layer_norm2|final_layer_norm|text_projection|token_embedding|position_embedding"
)
_WORD = re.compile(rf"(?:{_WITH_UNDERSCORES}|[^_]+)(?=_|$)")

_UNET = re.compile(
    r"(?:(?:down_blocks|up_blocks)\.\d+|mid_block)\.(?:attentions|resnets|downsamplers|upsamplers)\.\d+\..+"
    r"|conv_in|conv_out|conv_norm_out|(?:time|add)_embedding\.linear_[12]"
)
_TEXT = re.compile(r"text_model\.(?:encoder\.layers\.\d+\..+|embeddings\..+|final_layer_norm)|text_projection")
_THREE_BY_THREE = re.compile(r"unet\.(?:.+\.resnets\.\d+\.conv[12]|.+samplers\.0\.conv|conv_in|conv_out)")
_ONE_BY_ONE = re.compile(r"unet\..+\.conv_shortcut")

_STABILITY = {
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
}
_STABILITY_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def module_of(name: str, text_part: str = "text_encoder") -> tuple[str, str] | None:
    """(format, our spelling) of a module as a file names it, ending taken off; None for what is no module of Stable Diffusion.

    `text_part`: the text encoder meant by names that do not say which (a PEFT adapter of an encoder alone).
    """
    for spelling, prefix, part in _PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return _checked(spelling, part, _dotted(rest) if spelling == "kohya" else rest)
    before, inside, rest = name.rpartition("base_model.model.")
    spelling = "peft" if inside else "diffusers"
    for part in PARTS:
        if before == f"{part}." or (not before and rest.startswith(f"{part}.")):
            return _checked(spelling, part, rest.removeprefix(f"{part}."))
    if before:
        return None
    return _checked(spelling, "unet", rest) or _checked(spelling, text_part, rest)


def kohya_module(module: str) -> str:
    """`unet.mid_block.attentions.0.proj_in` -> `lora_unet_mid_block_attentions_0_proj_in`."""
    part, _, path = module.partition(".")
    return _KOHYA[part] + path.replace(".", "_")


def sd_scripts_module(module: str) -> str:
    """`unet.mid_block.attentions.0.proj_in` -> `lora_unet_middle_block_1_proj_in`: kohya's scripts have SDXL's U-Net as Stability names it.

    They write these (sd-scripts' library/sdxl_original_unet.py). Their merging (networks/sdxl_merge_lora.py) and older versions read no
    others; newer ones rename diffusers' where a network is made from a file (networks/lora.py, `convert_diffusers_to_sai_if_needed`).
    """
    part, _, path = module.partition(".")
    return _KOHYA[part] + (to_stability(path) if part == "unet" else path).replace(".", "_")


def comfyui_module(module: str) -> str:
    """`unet.mid_block.attentions.0.proj_in` -> `diffusion_model.middle_block.1.proj_in`, as ComfyUI names the modules of SDXL."""
    part, _, path = module.partition(".")
    return _COMFYUI[part] + (to_stability(path) if part == "unet" else path)


def kernel_of(module: str) -> int | None:
    """Side of the convolution's kernel, or None for what is no convolution."""
    if _ONE_BY_ONE.fullmatch(module):
        return 1
    return 3 if _THREE_BY_THREE.fullmatch(module) else None


def from_stability(path: str) -> str:
    """A U-Net path of Stability's code (input_blocks.4.1...) as in diffusers; other paths are given back as they are.

    For two resnets a block, as in every Stable Diffusion: input block n = 1 + 3 b + i, output block n = 3 b + i.
    """
    if path in _STABILITY:
        return _STABILITY[path]
    if match := re.fullmatch(r"middle_block\.([012])\.(.+)", path):
        index, rest = int(match[1]), match[2]
        return f"mid_block.attentions.0.{rest}" if index == 1 else f"mid_block.resnets.{index // 2}.{_STABILITY_RESNET.get(rest, rest)}"
    if match := re.fullmatch(r"(input|output)_blocks\.(\d+)\.([012])\.(.+)", path):
        down, inner, rest = match[1] == "input", int(match[3]), match[4]
        block, i = divmod(int(match[2]) - down, _RESNETS_PER_BLOCK + 1)
        side = f"{'down' if down else 'up'}_blocks.{block}"
        if rest in ("op", "conv"):
            return f"{side}.{'down' if down else 'up'}samplers.0.conv"
        return f"{side}.attentions.{i}.{rest}" if inner else f"{side}.resnets.{i}.{_STABILITY_RESNET.get(rest, rest)}"
    return path


def to_stability(path: str) -> str:
    """The inverse of `from_stability`, for SDXL (whose upsamplers come after attention)."""
    for theirs, ours in _STABILITY.items():
        if path == ours:
            return theirs
    resnet = {ours: theirs for theirs, ours in _STABILITY_RESNET.items()}
    if match := re.fullmatch(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)", path):
        if match[1] == "attentions":
            return f"middle_block.1.{match[3]}"
        return f"middle_block.{2 * int(match[2])}.{resnet.get(match[3], match[3])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.(.+)", path)
    if match is None:
        return path
    down, block, kind, i, rest = match[1] == "down", int(match[2]), match[3], int(match[4]), match[5]
    side = "input_blocks" if down else "output_blocks"
    if kind == "downsamplers":
        return f"{side}.{(_RESNETS_PER_BLOCK + 1) * (block + 1)}.0.op"
    if kind == "upsamplers":
        return f"{side}.{(_RESNETS_PER_BLOCK + 1) * block + _RESNETS_PER_BLOCK}.2.conv"
    number = (_RESNETS_PER_BLOCK + 1) * block + i + down
    return f"{side}.{number}.1.{rest}" if kind == "attentions" else f"{side}.{number}.0.{resnet.get(rest, rest)}"


def _dotted(name: str) -> str:
    return ".".join(_WORD.findall(name))


def _checked(spelling: str, part: str, path: str) -> tuple[str, str] | None:
    if part == "unet":
        path = from_stability(path.replace(".processor.", "."))
        path = f"{path}.0" if path.endswith(".to_out") else path
        return (spelling, f"{part}.{path}") if _UNET.fullmatch(path) else None
    # diffusers' first LoRAs called the projections as in the U-Net; transformers 5 dropped `text_model`
    path = re.sub(r"self_attn\.to_(q|k|v|out)(?:\.0)?$", r"self_attn.\1_proj", path)
    path = f"text_model.{path}" if path.startswith(("encoder.", "embeddings.", "final_layer_norm")) else path
    return (spelling, f"{part}.{path}") if _TEXT.fullmatch(path) else None
