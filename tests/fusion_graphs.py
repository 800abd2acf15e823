"""What else may be in a graph: ComfyUI's own patches, and patches as other packs make them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

LORA = "random_for_compositions.safetensors"
DEEP_SHRINK_BLOCK = 3
IMAGE_TOKENS, IMAGE_WEIGHT = 4, 0.4
CONTROL_STRENGTH = 0.03
GLIGEN_WIDTH = 64


class Graph(NamedTuple):
    """A MODEL with the conditionings that go with it."""

    model: Any
    positive: Any
    negative: Any


def stock(module: str, node: str) -> Any:
    return getattr(importlib.import_module(f"comfy_extras.{module}"), node)


def lora(mini: SimpleNamespace, graph: Graph) -> Graph:
    model, _ = mini.nodes.LoraLoader().load_lora(graph.model, mini.clip, mini.lora, 1.0, 1.0)
    return graph._replace(model=model)


def person_lora(home: Any) -> str:
    """A LoRA of random weights on all attention, in ComfyUI's folder of LoRAs; returns its name."""
    from random_lora import every_projection, write_lora  # not above: ComfyUI's process loads this file without its folder

    with torch.inference_mode(False):
        write_lora(home / "models" / "loras" / LORA, layers=every_projection(), spread=0.006, seed=2)
    return LORA


def controlnet(mini: SimpleNamespace, graph: Graph) -> Graph:
    image = torch.rand(1, 64, 128, 3, generator=torch.Generator().manual_seed(3))
    apply = mini.nodes.ControlNetApplyAdvanced().apply_controlnet
    positive, negative = apply(graph.positive, graph.negative, mini.controlnet, image, CONTROL_STRENGTH, 0.0, 1.0)
    return Graph(graph.model, positive, negative)


def random_controlnet(model: Any) -> Any:
    """A ControlNet of the model's shape with random weights."""
    config = dict(model.model.model_config.unet_config)
    for name in ("out_channels", "dtype", "device"):
        config.pop(name, None)
    network = importlib.import_module("comfy.cldm.cldm").ControlNet(**config, hint_channels=3, dtype=torch.float32)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 1.5 * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.0
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
                module.weight.fill_(1.0)
    return importlib.import_module("comfy.controlnet").ControlNet(network, load_device=torch.device("cpu"))


def gligen(mini: SimpleNamespace, graph: Graph) -> Graph:
    apply = mini.nodes.GLIGENTextBoxApply().append
    return graph._replace(positive=apply(graph.positive, mini.clip, mini.gligen, "a red scarf", 32, 32, 8, 8)[0])


def random_gligen(model: Any, clip: Any) -> Any:
    """A GLIGEN of the model's shape with random weights, as ComfyUI's loader makes one; its gates are open."""
    module = importlib.import_module("comfy.gligen")
    unet = model.model.diffusion_model
    widths = [block.norm1.normalized_shape[0] for block in transformers(unet)]
    side = clip.encode_from_tokens(clip.tokenize(""), return_pooled="unprojected")[1].shape[-1]
    torch.manual_seed(5)
    fusers = [module.GatedSelfAttentionDense(width, GLIGEN_WIDTH, 2, width // 2) for width in widths]
    network = module.Gligen(fusers, module.PositionNet(side, GLIGEN_WIDTH), side)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1)
    for fuser in fusers:
        fuser.alpha_attn.fill_(1.0)
    device = torch.device("cpu")
    return importlib.import_module("comfy.model_patcher").ModelPatcher(network, load_device=device, offload_device=device)


def transformers(unet: Any) -> list[Any]:
    """ComfyUI's BasicTransformerBlocks in the order in which they run."""
    block = importlib.import_module("comfy.ldm.modules.attention").BasicTransformerBlock
    return [module for module in unet.modules() if isinstance(module, block)]


def freeu(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(model=stock("nodes_freelunch", "FreeU")().patch(graph.model, 1.1, 1.2, 0.9, 0.2)[0])


def freeu_v2(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(model=stock("nodes_freelunch", "FreeU_V2")().patch(graph.model, 1.3, 1.4, 0.9, 0.2)[0])


def perturbed_attention_guidance(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(model=stock("nodes_pag", "PerturbedAttentionGuidance").execute(graph.model, 3.0).args[0])


def deep_shrink(mini: SimpleNamespace, graph: Graph, end: float = 1.0) -> Graph:
    shrink = stock("nodes_model_downscale", "PatchModelAddDownscale").execute
    return graph._replace(model=shrink(graph.model, DEEP_SHRINK_BLOCK, 2.0, 0.0, end, True, "bicubic", "bicubic").args[0])


def hypertile(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(model=stock("nodes_hypertile", "HyperTile").execute(graph.model, 32, 1, 1, False)[0])


def image_prompt(mini: SimpleNamespace, graph: Graph) -> Graph:
    """As IPAdapter does: text's cross-attention replaced by its sum with that to the tokens of an image, on conditional rows."""
    attention = importlib.import_module("comfy.ldm.modules.attention").optimized_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        generator = torch.Generator().manual_seed(extra["block"][1])
        keys, values = (torch.randn(1, IMAGE_TOKENS, q.shape[2], generator=generator).to(q).expand(len(q), -1, -1) for _ in "kv")
        wanted = torch.tensor([kind == 0 for kind in extra["cond_or_uncond"]]).repeat_interleave(len(q) // len(extra["cond_or_uncond"]))
        text, image = attention(q, k, v, extra["n_heads"]), attention(q, keys, values, extra["n_heads"])
        return text + IMAGE_WEIGHT * wanted[:, None, None].to(q) * image

    model = graph.model.clone()
    for name, number in (("input", 4), ("input", 7), ("middle", 0), *(("output", number) for number in range(6))):
        model.set_model_attn2_replace(attend, name, number)
    return graph._replace(model=model)


def attention_couple(mini: SimpleNamespace, graph: Graph, regions: int = 1, text: Any = None) -> Graph:
    """As packs for regional prompting do: a conditional row asks the texts of regions too, in rows of its own, and masks put the answers
    together. Here the regions are strips from the right, and their text is the negative one unless told."""
    other = (text or graph.negative)[0][0]

    def spread(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        kinds, given = extra["cond_or_uncond"], []
        for kind, *parts in zip(kinds, *(part.chunk(len(kinds)) for part in (q, k, v)), strict=True):
            more = other.to(k).repeat(len(parts[1]), k.shape[1] // other.shape[1], 1)
            copies = 0 if kind else regions
            given.append([torch.cat([part, *[again] * copies]) for part, again in zip(parts, (parts[0], more, more), strict=True)])
        extra["undivided"] = kinds
        extra["cond_or_uncond"] = [kind for kind in kinds for _ in range(1 if kind else 1 + regions)]
        queries, keys, values = (torch.cat(parts) for parts in zip(*given, strict=True))
        return queries, keys, values

    def gather(n: Tensor, extra: dict[str, Any]) -> Tensor:
        height, width = extra["activations_shape"][-2:]
        strip = (torch.arange(width) * (1 + regions) // width).repeat(height)
        parts, kinds = list(n.chunk(len(extra["cond_or_uncond"]))), extra.pop("undivided")
        given = []
        for kind in kinds:
            rows = [parts.pop(0) for _ in range(1 if kind else 1 + regions)]
            given.append(rows[0] if kind else sum(part * (strip == number)[:, None].to(part) for number, part in enumerate(rows)))
        extra["cond_or_uncond"] = kinds
        return torch.cat(given)

    model = graph.model.clone()
    model.set_model_attn2_patch(spread)
    model.set_model_attn2_output_patch(gather)
    return graph._replace(model=model)


def attention_output(mini: SimpleNamespace, graph: Graph) -> Graph:
    """Another pack's patch in the very hook that the default site uses."""

    def patch(n: Tensor, extra: dict[str, Any]) -> Tensor:
        return n + 0.3 * n.roll(1, 2)

    model = graph.model.clone()
    model.set_model_attn2_output_patch(patch)
    return graph._replace(model=model)


Pack = Callable[[SimpleNamespace, Graph], Graph]

PACKS: dict[str, tuple[Pack, float]] = {
    "LoRA": (lora, 0.8),
    "ControlNet": (controlnet, 0.6),
    "FreeU": (freeu, 0.5),
    "FreeU_V2": (freeu_v2, 0.5),
    "PAG": (perturbed_attention_guidance, 0.9999),
    "Deep Shrink": (deep_shrink, -1.0),
    "HyperTile": (hypertile, 0.3),
    "IPAdapter": (image_prompt, 0.6),
    "attn2 output": (attention_output, 0.8),
    "attention couple": (attention_couple, -1.0),
}
"""With the least cosine between a fusion's change beside the pack and by itself. Deep Shrink and attention couple make another picture: see
their own tests."""

SAME_HOOK = {("FreeU", "skip"), ("FreeU_V2", "skip")}
"""Where both change the same thing, so that it matters which comes first."""


# ComfyUI's own nodes that change guidance, attention or weights


def node(module: str, name: str, *settings: Any) -> Callable[[SimpleNamespace, Graph], Graph]:
    """The MODEL through one of ComfyUI's nodes, with its settings."""
    return lambda mini, graph: graph._replace(model=stock(module, name).execute(graph.model, *settings).args[0])


def rescale_cfg(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(model=stock("nodes_model_advanced", "RescaleCFG")().patch(graph.model, 0.7)[0])


def merged(mini: SimpleNamespace, graph: Graph, **shares: float) -> Graph:
    """With another checkpoint: here the same one with a LoRA."""
    name = "ModelMergeBlocks" if shares else "ModelMergeSimple"
    merge = stock("nodes_model_merging", name)().merge
    return graph._replace(model=merge(graph.model, lora(mini, graph).model, **(shares or {"ratio": 0.3}))[0])


def merged_by_blocks(mini: SimpleNamespace, graph: Graph) -> Graph:
    return merged(mini, graph, input=0.5, middle=0.2, out=0.7)


def negative_zeroed(mini: SimpleNamespace, graph: Graph) -> Graph:
    return graph._replace(negative=mini.nodes.ConditioningZeroOut().zero_out(graph.negative)[0])


GUIDANCE: dict[str, Pack] = {
    "SAG": node("nodes_sag", "SelfAttentionGuidance", 0.75, 2.0),
    "RescaleCFG": rescale_cfg,
    "Mahiro": node("nodes_mahiro", "Mahiro"),
    "APG": node("nodes_apg", "APG", 0.0, 2.0, 0.0),
    "TCFG": node("nodes_tcfg", "TCFG"),
    "CFG-Zero*": node("nodes_cfg", "CFGZeroStar"),
    "CFGNorm": node("nodes_cfg", "CFGNorm", 0.8),
    "FreSca": node("nodes_fresca", "FreSca", 1.0, 1.5, 2),
    "Epsilon Scaling": node("nodes_eps", "EpsilonScaling", 1.05),
}
WEIGHTS: dict[str, Pack] = {
    "self-attention multiplied": node("nodes_attention_multiply", "UNetSelfAttentionMultiply", 1.1, 1.0, 1.1, 1.0),
    "cross-attention multiplied": node("nodes_attention_multiply", "UNetCrossAttentionMultiply", 1.0, 1.1, 1.2, 1.0),
    "merged": merged,
    "merged by blocks": merged_by_blocks,
}
