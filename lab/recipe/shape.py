"""The shape of FaceExpr Mini 2: SDXL's architecture, narrow enough for a laptop CPU."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

RESOLUTION = 192
VOCABULARY = 49_408
WIDTH_L = 32
WIDTH_G = 64
POOLED = WIDTH_G  # ComfyUI's CLIP projects to its own width


def text_encoder_config(width: int, layers: int, activation: str, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=77,
        hidden_act=activation,
        projection_dim=projection,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=1 if activation == "quick_gelu" else 0,
    )


def text_encoder_l() -> CLIPTextModel:
    """CLIP-L's place: quick_gelu, hidden states of the last layer but one are used."""
    return CLIPTextModel(text_encoder_config(WIDTH_L, layers=3, activation="quick_gelu", projection=WIDTH_L))


def text_encoder_g() -> CLIPTextModelWithProjection:
    """OpenCLIP bigG's place: gelu, projected end-of-text state as the pooled embedding."""
    return CLIPTextModelWithProjection(text_encoder_config(WIDTH_G, layers=3, activation="gelu", projection=POOLED))


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=RESOLUTION // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 4, 5),
        cross_attention_dim=WIDTH_L + WIDTH_G,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=POOLED + 6 * 256,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 48, 80, 112),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,  # 32 groups of one channel would normalise colour away
        sample_size=RESOLUTION,
        scaling_factor=1.0,
        force_upcast=False,
    )


def scheduler() -> EulerDiscreteScheduler:
    """SDXL's schedule: scaled-linear betas 0.00085 to 0.012, epsilon prediction, leading spacing offset 1."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
    )


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
