"""The graphs that `lab.card.sdxl_size` runs in ComfyUI, in the API's format."""

from __future__ import annotations

from typing import Any

from comfy_process import Graph

PROMPT, CLASS = "a photo of ohwx woman", "woman"
RUN = {"seed": 7, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def loaded(checkpoint: str) -> Graph:
    return {"load": node("CheckpointLoaderSimple", ckpt_name=checkpoint)}


def photos(folder: str, side: int) -> Graph:
    return {
        "photos": node(
            "FaceExprLoadSubjectImages",
            folder=folder,
            trigger_word="ohwx",
            class_word=CLASS,
            resolution=side,
            framing="face crop",
            padding=0.75,
            face=0,
            drop_small_faces=True,
            drop_duplicates=True,
        )
    }


def prepared(checkpoint: str, folder: str, side: int) -> Graph:
    """The loader, an empty prompt, and the photos."""
    shown = {"words": node("CLIPTextEncode", clip=["load", 1], text=PROMPT), **_picture(["load", 0], ["words", 0], ["words", 0], side)}
    return {**loaded(checkpoint), **photos(folder, side), **shown, "report": node("PreviewAny", source=["photos", 3])}


def trained(checkpoint: str, folder: str, side: int, preset: str, name: str, **changes: Any) -> Graph:
    sources = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "subject": ["photos", 0]}
    # a rate at which two steps can be seen
    values = {"preset": preset, "steps": 2, "learning_rate": 1e-3, "rank": 0, "seed": 5, "prior_images": 1, "preview_every": 0, "ema": 0.0}
    train = node("FaceExprTrainLoRA", **sources, lora_name=name, **{**values, **changes})
    return {**loaded(checkpoint), **photos(folder, side), "train": train}


def drawn_with_lora(checkpoint: str, side: int, loader: str, lora: str) -> Graph:
    """`loader`: LoraLoader, FaceExprLoadLoRA, or "" for none."""
    graph = loaded(checkpoint)
    model, clip = ["load", 0], ["load", 1]
    if loader:
        graph["lora"] = node(loader, model=model, clip=clip, lora_name=lora, strength_model=1.0, strength_clip=1.0)
        model, clip = ["lora", 0], ["lora", 1]
    graph["words"] = node("CLIPTextEncode", clip=clip, text=PROMPT)
    graph["nothing"] = node("CLIPTextEncode", clip=clip, text="")
    return {**graph, **_picture(model, ["words", 0], ["nothing", 0], side)}


def drawn(checkpoint: str, side: int, donor: str = "", fused: bool = False) -> Graph:
    """FaceExpr Sampler; `fused` with features of words, or of the photo `donor`."""
    graph = loaded(checkpoint)
    graph["words"] = node(
        "FaceExprExpressionTextEncode",
        clip=["load", 1],
        prompt=PROMPT,
        expression="happy",
        intensity=1.0,
        second_expression="none",
        second_weight=0.5,
        action_units="",
    )
    graph["nothing"] = node("CLIPTextEncode", clip=["load", 1], text="")
    graph["empty"] = node("EmptyLatentImage", width=side, height=side, batch_size=1)
    latent = {"latent_image": ["empty", 0], "negative": ["nothing", 0]}
    more: dict[str, Any] = {}
    if fused:
        more = {"features": ["features", 0]}
        asked = {"model": ["load", 0], "positive": ["words", 0], "neutral": ["words", 1], "expression": "happy"}
        graph["features"] = node("FaceExprExtractExpressionFeatures", **asked, **latent, **RUN)
        if donor:
            graph["donor"] = node("LoadImage", image=donor)
            graph["features"]["inputs"] |= {"photo": ["donor", 0], "vae": ["load", 2], "levels": 1}
    sampler = node("FaceExprSampler", model=["load", 0], positive=["words", 0], neutral=["words", 1], **latent, **RUN, **more)
    return {**graph, "sample": sampler, **_saved(["sample", 0])}


def _picture(model: list[Any], positive: list[Any], negative: list[Any], side: int) -> Graph:
    sample = node("KSampler", model=model, positive=positive, negative=negative, latent_image=["empty", 0], **RUN)
    return {"empty": node("EmptyLatentImage", width=side, height=side, batch_size=1), "sample": sample, **_saved(["sample", 0])}


def _saved(latent: list[Any]) -> Graph:
    return {
        "pixels": node("VAEDecode", samples=latent, vae=["load", 2]),
        "save": node("SaveImage", images=["pixels", 0], filename_prefix="sdxl_size"),
    }
