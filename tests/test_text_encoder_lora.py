"""Text encoders that learn with the U-Net: their embeddings and gradients, the run, its states, and the LoRA in ComfyUI and diffusers."""

from __future__ import annotations

import copy
import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pack
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from distances import relative
from safetensors.torch import save_file
from toys import lora_of, toy_unet
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from faceexpr_core.commands.cli import _parser
from faceexpr_core.commands.dreambooth import job_of
from faceexpr_core.commands.dreambooth_flags import build_parser
from faceexpr_core.commands.loras import load_loras
from faceexpr_core.commands.train import settings_of
from faceexpr_core.diffusers_host.encoding import encode_prompts, tokenize_prompts
from faceexpr_core.errors import FaceExprError
from faceexpr_core.lora.describe import describe
from faceexpr_core.lora.files import save_lora
from faceexpr_core.lora.formats import decode, encode, load
from faceexpr_core.lora.kohya import save_result, training_metadata
from faceexpr_core.lora.start import read_start
from faceexpr_core.mini import subject_path
from faceexpr_core.photos.subject import Subject
from faceexpr_core.training.adapter import lora_numbers, without_lora
from faceexpr_core.training.crafting import CraftingSet
from faceexpr_core.training.data import TrainingSet
from faceexpr_core.training.loop import train_lora
from faceexpr_core.training.losses import crafting_loss, weighted_epsilon_loss
from faceexpr_core.training.materials import Materials
from faceexpr_core.training.result import Step, TrainResult
from faceexpr_core.training.settings import TrainSettings, preset_settings
from faceexpr_core.training.start import Start
from faceexpr_core.training.state import StateFolder
from faceexpr_core.training.text_encoders import TextEncoders, add_text_lora, embed_tokens, stack_tokens, text_lora_shapes
from faceexpr_core.training.trainer import Trainer

WORDS, LENGTH, END = 32, 7, 31
CPU = torch.device("cpu")
EVERYTHING = TrainSettings(
    rank=2,
    steps=6,
    batch_size=2,
    accumulation=1,
    learning_rate=1e-3,
    schedule="cosine",
    caption_dropout=0.3,
    prior="distill",
    crafting_weight=0.5,
    crafting_ramp=0,
    ema=0.9,
    text_encoder=True,
    text_encoder_learning_rate=1e-2,
    seed=3,
)


def changed(**changes: object) -> TrainSettings:
    return TrainSettings(**{**EVERYTHING.__dict__, **changes})  # type: ignore[arg-type]


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def toy_encoders() -> TextEncoders:
    """Two encoders of widths 4, so that the text is 8 wide, and a projection to 6; their words matter, unlike those of a fresh CLIP."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        common = {"vocab_size": WORDS, "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "bos_token_id": 0}
        config = CLIPTextConfig(**common, projection_dim=6, num_hidden_layers=3, max_position_embeddings=LENGTH, eos_token_id=END)
        encoders = TextEncoders(CLIPTextModel(config), CLIPTextModelWithProjection(config))
        for encoder in encoders.parts.values():
            for weight in encoder.parameters():
                torch.nn.init.normal_(weight, std=0.5)
        return encoders


def toy_tokens(*shape: int, number: int) -> torch.Tensor:
    tokens = torch.randint(1, END, (*shape, 2, 1, LENGTH), generator=seeded(number))
    tokens[..., 0], tokens[..., -2:] = 0, END
    return tokens


def toy_photos(encoders: TextEncoders) -> TrainingSet:
    tokens, empty = toy_tokens(3, number=2), toy_tokens(1, number=3)
    with torch.no_grad():
        (embeds, pooled), (empty_embeds, empty_pooled) = embed_tokens(encoders, tokens), embed_tokens(encoders, empty)
    latents = torch.randn(3, 4, 8, 8, generator=seeded(4))
    sizes, weights = torch.ones(3, 6), torch.ones(3, 1, 8, 8)
    return TrainingSet(latents, embeds, pooled, sizes, weights, empty_embeds, empty_pooled, "three", tokens, empty)


def toy_pairs(encoders: TextEncoders) -> CraftingSet:
    person, base = toy_tokens(2, 2, number=5), toy_tokens(2, 2, number=6)
    with torch.no_grad():
        of_person, of_base = (embed_tokens(encoders, tokens.flatten(0, 1)) for tokens in (person, base))
    named, plain = ([part.unflatten(0, (2, 2)) for part in words] for words in (of_person, of_base))
    return CraftingSet(("happy", "sad"), named[0], named[1], plain[0], plain[1], None, "pairs", person, base)


def toy_run(settings: TrainSettings = EVERYTHING, states: StateFolder | None = None, stop_at: int = 0, **rest) -> TrainResult:
    encoders = toy_encoders()
    data, pairs = toy_photos(encoders), toy_pairs(encoders)

    def on_step(step: Step) -> None:
        if step.number == stop_at:
            raise KeyboardInterrupt

    return train_lora(toy_unet(), data, settings, on_step, crafting=pairs, states=states, **{"encoders": encoders, **rest})


def toy_trainer(settings: TrainSettings = EVERYTHING) -> Trainer:
    encoders = toy_encoders()
    data, pairs = toy_photos(encoders), toy_pairs(encoders)
    trainer = Trainer(Materials(toy_unet(), data, data, pairs, encoders), settings, CPU)
    for down, up in (*trainer.layers.values(), *trainer.text_layers.values()):
        torch.nn.init.normal_(down, std=0.5, generator=seeded(7))
        torch.nn.init.normal_(up, std=0.5, generator=seeded(8))
    return trainer


def test_a_lora_with_the_layer_that_sdxl_does_not_read_is_started_from_and_it_is_said(tmp_path: Path) -> None:
    """As diffusers' script trains it: the attention of every layer of both text encoders, those of the first one's last layer too."""
    first, steady = (
        toy_run(),
        changed(steps=1, learning_rate=1e-8, text_encoder_learning_rate=1e-8, weight_decay=0.0, ema=0.0, optimizer="adamw"),
    )
    last = {
        f"text_encoder.text_model.encoder.layers.2.self_attn.{name}": (torch.full((2, 4), 0.5), torch.full((4, 2), 0.5))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    }
    whole = replace(first, layers={**first.layers, **last})
    encoded = encode(decode(lora_of(whole), {}, {}), "diffusers")
    save_file({key: value.contiguous() for key, value in encoded.state.items()}, tmp_path / "whole.safetensors", encoded.metadata)
    start = read_start(tmp_path / "whole.safetensors")
    assert start.layers.keys() == first.layers.keys() | last.keys()
    began = toy_run(steady, start=start)
    assert began.notes == (
        "4 layers of whole.safetensors were left out: they lie in the last layer of the first text encoder, which SDXL does not read.",
    )
    assert toy_run(steady, start=replace(start, layers={name: start.layers[name] for name in first.layers})).notes == ()
    for name, (down, up) in first.layers.items():
        change = began.layers[name][1].flatten(1) @ began.layers[name][0].flatten(1)
        assert torch.allclose(change, up.flatten(1) @ down.flatten(1), atol=1e-5), name


@pytest.mark.parametrize(
    ("layer", "reads", "advice"),
    [
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", False, "switch train_text_encoder on"),
        ("text_encoder.text_model.encoder.layers.2.self_attn.q_proj", False, "switch train_text_encoder on"),
        ("text_encoder.text_model.encoder.layers.0.mlp.fc1", True, "take a LoRA of the attention layers"),
        ("text_encoder_2.text_model.encoder.layers.2.mlp.fc2", True, "take a LoRA of the attention layers"),
        ("unet.mid_block.resnets.0.time_emb_proj", True, "switch convolutions on"),
    ],
)
def test_what_is_on_already_is_not_advised(layer: str, reads: bool, advice: str) -> None:
    start = Start("person.safetensors", {layer: (torch.ones(2, 4), torch.ones(4, 2), 2.0)})
    with pytest.raises(FaceExprError, match=rf"person\.safetensors changes 1 layers .*{advice}"):
        toy_run(changed(text_encoder=reads), start=start)
    if ".resnets." in layer:
        with pytest.raises(FaceExprError, match="take a LoRA of the attention layers"):
            toy_run(changed(convolutions=True), start=start)


def gradient_and_slope(trainer: Trainer, loss, constant_side=None) -> tuple[float, float]:
    """The length of the gradient in the text encoders' LoRA, and the slope of the loss that way from finite differences."""
    weights = [weight for pair in trainer.text_layers.values() for weight in pair]
    gradients = torch.autograd.grad(loss(), weights)
    length = float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())
    values, step = [], 2e-2
    with torch.no_grad():
        for sign in (1, -2, 1):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(sign * step * gradient / length)
            values.append(float((constant_side or loss)()))
    return length, (values[0] - values[1]) / (2 * step)


PARTS = {
    "identity": {"prior": "off"},
    "images": {"prior": "images"},
    "model": {"prior": "images", "prior_target": "model"},
    "distill": {"prior": "distill"},
}


@pytest.mark.parametrize("part", PARTS)
def test_gradients_of_the_text_encoders_agree_with_finite_differences(part: str) -> None:
    trainer = toy_trainer(changed(**PARTS[part]))
    parts, draws = trainer.parts, trainer.draws
    batch, loss = (draws.identity(), parts.identity) if part == "identity" else (draws.prior(), parts.prior)
    gradient, slope = gradient_and_slope(trainer, lambda: loss(batch))
    assert gradient > 1e-3 and slope == pytest.approx(gradient, rel=0.02)


def test_the_gradient_of_crafting_goes_through_one_side_of_each_pair() -> None:
    trainer = toy_trainer()
    parts, generator = trainer.parts, copy.deepcopy(trainer.draws.generators["crafting"].get_state())
    pairs, encoders = parts.crafting, parts.encoders
    assert pairs is not None and pairs.person_tokens is not None and encoders is not None
    person_tokens = pairs.person_tokens
    batch = trainer.draws.crafting()

    draws = torch.Generator()
    draws.set_state(generator)
    photos = parts.data.select(torch.randint(3, (2,), generator=draws))
    e, t = torch.randint(2, (2,), generator=draws), torch.randint(300, 701, (2,), generator=draws)
    noisy = parts.schedule.add_noise(photos.latents, torch.randn(2, 4, 8, 8, generator=draws), t)
    learning = batch.learning
    assert learning is not None and sorted(learning.tolist()) == [0, 1]

    def predict(words: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        added = {"text_embeds": words[1], "time_ids": photos.time_ids}
        return trainer.unet(noisy, t, words[0], added_cond_kwargs=added).sample

    with torch.no_grad():
        with without_lora(trainer.unet, trainer.layers):  # the base's U-Net, with the base's words
            base = [predict((pairs.base[e, which], pairs.base_pooled[e, which])) for which in (0, 1)]
        still = predict(trainer.embed(person_tokens[e, 1 - learning]))

    def loss() -> torch.Tensor:
        moving = predict(embed_tokens(encoders, person_tokens[e, learning]))
        change = torch.stack([moving[one] - still[one] if side else still[one] - moving[one] for one, side in enumerate(learning)])
        return crafting_loss(change, base[1] - base[0])[0].mean()

    def both_sides() -> torch.Tensor:
        neutral, expression = (predict(embed_tokens(encoders, person_tokens[e, which])) for which in (0, 1))
        return crafting_loss(expression - neutral, base[1] - base[0])[0].mean()

    def of_batch() -> torch.Tensor:
        return parts.expression(batch)[0].mean()

    assert float(of_batch().detach()) == pytest.approx(float(loss().detach()), rel=1e-5)
    gradient, slope = gradient_and_slope(trainer, of_batch, loss)
    assert gradient > 1e-3 and slope == pytest.approx(gradient, rel=0.02)

    weights = [weight for pair in trainer.text_layers.values() for weight in pair]
    whole = torch.autograd.grad(both_sides(), weights)
    halves = [torch.autograd.grad(parts.expression(replace(batch, learning=side))[0].mean(), weights) for side in (learning, 1 - learning)]
    for expected, one, other in zip(whole, *halves, strict=True):
        assert torch.allclose(one + other, expected, rtol=1e-3, atol=1e-6)


def test_gradients_in_double_precision_weight_by_weight() -> None:
    encoders, unet = toy_encoders(), toy_unet().double().requires_grad_(False)
    for encoder in encoders.parts.values():
        encoder.requires_grad_(False)
    layers = add_text_lora(encoders, 1, 2.0, seeded(1))
    for encoder in encoders.parts.values():
        encoder.double()
    weights = [weight for pair in layers.values() for weight in pair]
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.5, generator=seeded(9))
    tokens, noise = toy_tokens(1, number=2), torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=seeded(4))

    def loss() -> torch.Tensor:
        hidden, pooled = embed_tokens(encoders, tokens)
        added = {"text_embeds": pooled, "time_ids": torch.ones(1, 6)}
        return weighted_epsilon_loss(
            noise, unet(noise, 500, hidden, added_cond_kwargs=added).sample, torch.ones(1, 1, 8, 8), torch.ones(1)
        ).sum()

    gradients = torch.autograd.grad(loss(), weights)
    assert len(weights) == 2 * 4 * (2 + 3)  # the first encoder's last layer is not read
    for weight, gradient in zip(weights, gradients, strict=True):
        place = int(gradient.abs().argmax())
        slopes = []
        with torch.no_grad():
            for change in (1e-5, -2e-5, 1e-5):
                weight.view(-1)[place] += change
                slopes.append(float(loss()))
        assert (slopes[0] - slopes[1]) / 2e-5 == pytest.approx(float(gradient.view(-1)[place]), rel=1e-4, abs=1e-9)
        assert gradient.abs().max() > 0


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    off = changed(text_encoder=False)
    encoders = toy_encoders()
    before = {part: {name: value.clone() for name, value in one.state_dict().items()} for part, one in encoders.parts.items()}
    runs = []
    for given in (None, encoders):
        states = StateFolder(tmp_path / str(given is None), every=1)
        result = toy_run(off, states, encoders=given)
        state = states.latest()
        assert state is not None and not [name for name in (*state.run, *state.tensors) if "text" in name]
        runs.append((result, state))
    (first, state), (second, again) = runs
    assert first.losses == second.losses and all(torch.equal(lora_of(first)[key], lora_of(second)[key]) for key in lora_of(first))
    assert state.run == again.run and state.tensors.keys() == again.tensors.keys()
    assert all(key.startswith("lora_unet_") for key in lora_of(first))
    for part, weights in before.items():
        after = encoders.parts[part].state_dict()
        assert weights.keys() == after.keys() and all(torch.equal(after[name], value) for name, value in weights.items())  # no adapter
    assert not [key for key, value in told(first, off).items() if "text_encoder" in key or "text_encoder" in value]
    # the noise and the U-Net's first weights are the same with it: at the start the LoRA changes nothing
    assert toy_run(changed(steps=1)).losses == pytest.approx(first.losses[:1], rel=1e-4)


def told(result: TrainResult, settings: TrainSettings) -> dict[str, str]:
    return training_metadata("anna", result, settings, Subject((), "ohwx", "woman", 128, ""), 1.0)


def test_the_encoders_learn_at_their_own_rate_and_the_file_says_so() -> None:
    settings = changed(steps=1, schedule="constant", ema=0, crafting_weight=0, text_encoder_weight_decay=0, weight_decay=0)
    for given, rate in ((0.0, 1e-3), (1e-2, 1e-2)):
        used = changed(**{**settings.__dict__, "text_encoder_learning_rate": given})
        result = toy_run(used)
        for part, expected in (("_te1_", rate), ("_te2_", rate), ("_unet_", 1e-3)):  # Adam's first step is as long as the learning rate
            ups = [value.abs().max() for key, value in lora_of(result).items() if part in key and key.endswith("lora_up.weight")]
            assert float(max(ups)) == pytest.approx(expected, rel=0.02)
        metadata = told(result, used)
        assert metadata["ss_text_encoder_lr"] == f"{rate:g}" and metadata["faceexpr.text_encoder"] == "true"
        assert '"text_encoder": true' in metadata["faceexpr.settings"]


def test_checkpointing_gives_the_same_and_half_precision_nearly(tmp_path: Path) -> None:
    encoders = toy_encoders()
    plain, kept = toy_run(changed(steps=2)), toy_run(changed(steps=2, gradient_checkpointing=True), encoders=encoders)
    assert all(any(getattr(one, "gradient_checkpointing", False) for one in encoder.modules()) for encoder in encoders.parts.values())
    assert kept.losses == plain.losses and all(torch.equal(lora_of(kept)[key], lora_of(plain)[key]) for key in lora_of(plain))
    half = toy_run(changed(steps=2, precision="bf16"))
    for part in ("identity", "prior"):  # crafting has a higher floor in bfloat16, near which this toy's changes lie
        assert half.curves[part] == pytest.approx(plain.curves[part], rel=0.05, abs=1e-3) and half.curves[part] != plain.curves[part]
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in lora_of(half).values())


def test_a_run_stopped_at_every_step_ends_as_one_never_stopped(tmp_path: Path) -> None:
    whole, states = toy_run(), StateFolder(tmp_path, every=1)
    for step in range(1, 6):
        assert toy_run(states=states, stop_at=step).steps == step
    result = toy_run(states=states)
    assert result.steps == 6 and result.losses == whole.losses
    assert all(torch.equal(lora_of(result)[key], lora_of(whole)[key]) for key in lora_of(whole))
    other = toy_encoders()
    with torch.no_grad():
        next(other.second.parameters()).add_(1)
    with pytest.raises(FaceExprError, match="the text encoders, or the LoRAs on them, are others"):
        toy_run(states=states, encoders=other)
    with pytest.raises(FaceExprError, match=r"is not the same: train_text_encoder was on, is off\. Set"):
        toy_run(changed(text_encoder=False), states)


def test_what_is_missing_is_told() -> None:
    with pytest.raises(FaceExprError, match="text_encoder is on, but there are no text encoders"):
        toy_run(encoders=None)
    encoders = toy_encoders()
    data, pairs = toy_photos(encoders), toy_pairs(encoders)
    data = TrainingSet(**{**data.__dict__, "tokens": None})
    with pytest.raises(FaceExprError, match="there are no tokens of the prompts"):
        train_lora(toy_unet(), data, EVERYTHING, crafting=pairs, encoders=encoders)


# On Mini


def private(pipe: StableDiffusionXLPipeline) -> TextEncoders:
    return TextEncoders(copy.deepcopy(pipe.text_encoder), copy.deepcopy(pipe.text_encoder_2))


PROMPTS = ["a photo of ohwx woman, happy expression", "", " ".join(["a photo of ohwx woman"] * 30)]


def test_tokens_kept_give_the_embeddings_of_the_prompts(pipe: StableDiffusionXLPipeline) -> None:
    tokens = tokenize_prompts(pipe, PROMPTS)
    assert tokens.shape == (3, 2, 2, 77) and tokens.dtype == torch.int64
    hidden, pooled = encode_prompts(pipe, PROMPTS)
    again, pooled_again = embed_tokens(private(pipe), tokens)
    assert hidden.shape == again.shape == (3, 154, 96)
    assert (hidden - again).abs().max() < 1e-5 and (pooled - pooled_again).abs().max() < 1e-4
    assert stack_tokens([tokens[0, :, :1], torch.cat([tokens[2], tokens[2, :, :1]], 1)]).shape == (2, 2, 3, 77)


@pytest.fixture(scope="module")
def trained(pipe: StableDiffusionXLPipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult, dict]:
    """A short run on Mini's U-Net and both encoders: its file, what it gave, and embeddings as the run had them at its end."""
    encoders, prompts = private(pipe), ["a photo of ohwx woman", "a photo of ohwx woman, sad expression", ""]
    tokens = tokenize_prompts(pipe, prompts)
    embeds, pooled = encode_prompts(pipe, prompts)
    latents = torch.randn(2, 4, 8, 8, generator=seeded(1))
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
    data = TrainingSet(
        latents, embeds[:2], pooled[:2], sizes, torch.ones(2, 1, 8, 8), embeds[2:], pooled[2:], "two", tokens[:2], tokens[2:]
    )
    settings = TrainSettings(
        rank=4, alpha=6, steps=16, batch_size=2, accumulation=1, learning_rate=1e-8, ema=0, text_encoder=True, min_snr_gamma=0,
        text_encoder_learning_rate=3e-2, seed=2,
    )  # fmt: skip
    seen = {}

    def on_step(step: Step) -> None:
        assert step.embed is not None
        seen["words"] = step.embed(tokenize_prompts(pipe, PROMPTS))

    result = train_lora(copy.deepcopy(pipe.unet), data, settings, on_step, encoders=encoders)
    still = train_lora(copy.deepcopy(pipe.unet), data, TrainSettings(**{**settings.__dict__, "text_encoder": False}))
    subject = Subject((), "ohwx", "woman", 64, "")
    path = tmp_path_factory.mktemp("lora") / "anna.safetensors"
    saved = save_result(path, result, settings, subject, background_weight=1.0, precision="fp32")
    return saved, result, {**seen, "still": still}


def test_the_encoders_alone_lower_the_loss_and_every_projection_moves(trained: tuple[Path, TrainResult, dict]) -> None:
    _, result, seen = trained
    ups = {key: value for key, value in lora_of(result).items() if "_te" in key and key.endswith("lora_up.weight")}
    assert len(ups) == 4 * (2 + 3)
    assert min(float(value.abs().max()) for value in ups.values()) > 1e-3
    assert sum(result.losses[-8:]) < 0.97 * sum(seen["still"].losses[-8:])


def test_the_file_is_read_and_written_in_every_format(trained: tuple[Path, TrainResult, dict]) -> None:
    lora = load(trained[0])
    assert not lora.unknown and lora.spelling == "kohya" and lora.family() == "FaceExpr Mini"
    parts = [name.split(".")[0] for name in lora.layers]
    assert (parts.count("text_encoder"), parts.count("text_encoder_2")) == (8, 12)
    assert {layer.alpha for layer in lora.layers.values()} == {6.0}
    assert re.search(r"text_encoder_2\.text_model\.encoder\.layers\.2 +4 ", describe(lora))
    for spelling in ("diffusers", "peft", "comfyui", "kohya"):
        encoded = encode(lora, spelling)
        if spelling != "peft":
            again = decode(encoded.state, encoded.metadata, {})
            assert again.layers.keys() == lora.layers.keys() and not encoded.lost
        else:
            assert set(encoded.configs) == {"unet", "text_encoder", "text_encoder_2"}


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_diffusers_draws_with_the_encoders_of_the_run(
    trained: tuple[Path, TrainResult, dict], pipe: StableDiffusionXLPipeline, tmp_path: Path, spelling: str
) -> None:
    path, _, seen = trained
    encoded = encode(load(path), spelling)
    file = save_lora(tmp_path / "converted.safetensors", encoded.state, encoded.metadata, None)
    plain, _ = encode_prompts(pipe, PROMPTS)
    whole = StableDiffusionXLPipeline(**{name: copy.deepcopy(part) for name, part in pipe.components.items()})
    load_loras(whole, [file], 1.0)
    for number, encoder in enumerate((whole.text_encoder, whole.text_encoder_2)):
        assert sum("lora_A" in name for name, _ in encoder.named_parameters()) == (8, 12)[number]
    words = encode_prompts(whole, PROMPTS)
    for given, expected in zip(words, seen["words"], strict=True):
        assert relative(given, expected) < 1e-4
    assert relative(words[0], plain) > 1e-2
    whole.set_adapters(["lora0"], [0.0])
    assert relative(encode_prompts(whole, PROMPTS)[0], plain) < 1e-5


# In ComfyUI


@pytest.fixture(scope="module")
def comfyui(comfy_modules):
    modules: dict[str, Any] = {"host": pack.host(), "text_encoders": pack.node("host.text_encoders"), "load_lora": pack.node("load_lora")}
    with torch.inference_mode():
        model, clip, _ = modules["host"].load_mini()
    errors = importlib.import_module("faceexpr_pack.faceexpr_core.errors")
    return type("ComfyUI", (), {**modules, "model": model, "clip": clip, "error": errors.FaceExprError, "nodes": comfy_modules.nodes})


def test_comfyuis_encoders_come_out_private_and_exact(comfyui, pipe: StableDiffusionXLPipeline) -> None:
    before = {key: value.clone() for key, value in comfyui.clip.cond_stage_model.state_dict().items()}
    with torch.inference_mode():
        encoders = comfyui.text_encoders.export_text_encoders(comfyui.clip, torch.float32, "a node")
        tokens = comfyui.text_encoders.tokenize(comfyui.clip, PROMPTS, "a node")
        expected = comfyui.host.encode_text(comfyui.clip, PROMPTS)
    assert torch.equal(tokens, tokenize_prompts(pipe, PROMPTS))
    for given, wanted in zip(embed_tokens(encoders, tokens), expected, strict=True):
        assert relative(given, wanted) < 1e-4
    with torch.no_grad():
        for encoder in encoders.parts.values():
            for weight in encoder.parameters():
                weight.zero_()
    after = comfyui.clip.cond_stage_model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("loader", ["ComfyUI's", "ours"])
def test_comfyuis_clip_with_the_lora_reads_as_the_run_did(comfyui, trained: tuple[Path, TrainResult, dict], loader: str) -> None:
    path, result, seen = trained
    folder = Path(importlib.import_module("folder_paths").get_folder_paths("loras")[0])
    name = save_lora(folder / "reading.safetensors", *load_kohya(path), None).name
    with torch.inference_mode():
        if loader == "ours":
            model, clip, report = comfyui.load_lora.LoadLoRA.execute(comfyui.model, name, 1.0, 1.0, comfyui.clip).args
            assert "CLIP: 20 layers at strength 1" in report and "NOT USED" not in report
        else:
            model, clip = comfyui.nodes.LoraLoader().load_lora(comfyui.model, comfyui.clip, name, 1.0, 1.0)
        assert len(model.patches) + len(clip.patcher.patches) == len(lora_of(result)) // 3
        words = comfyui.host.encode_text(clip, PROMPTS)
        for given, expected in zip(words, seen["words"], strict=True):
            assert relative(given, expected) < 1e-3  # 0.0003 on a CPU without AVX-512
        # the CLIP with a LoRA comes out with it
        again = comfyui.text_encoders.export_text_encoders(clip, torch.float32, "a node")
        tokens = comfyui.text_encoders.tokenize(clip, PROMPTS, "a node")
        assert relative(embed_tokens(again, tokens)[0], words[0]) < 1e-4


def load_kohya(path: Path) -> tuple[dict, dict]:
    encoded = encode(load(path), "kohya")
    return encoded.state, encoded.metadata


def test_what_text_encoders_that_learn_cannot_read_is_refused(comfyui) -> None:
    for prompt in ("a (happy:1.3) woman", "a ((happy)) woman"):
        with pytest.raises(comfyui.error, match="has weights such as"):
            comfyui.text_encoders.tokenize(comfyui.clip, [prompt], "a node")
    assert comfyui.text_encoders.tokenize(comfyui.clip, [r"a \(happy\) woman"], "a node").shape == (1, 2, 1, 77)
    skipping = comfyui.clip.clone()
    skipping.clip_layer(-3)
    with pytest.raises(comfyui.error, match="a CLIP that stops at layer -3"):
        comfyui.text_encoders.export_text_encoders(skipping, torch.float32, "a node")


# Flags


def test_both_command_lines_take_it() -> None:
    words = ["--pretrained_model_name_or_path=mini", f"--instance_data_dir={subject_path()}", "--instance_prompt=a photo of ohwx woman"]
    words += ["--seed=1", "--learning_rate=1e-4"]
    settings = job_of(build_parser().parse_args([*words, "--train_text_encoder"])).settings
    assert (settings.text_encoder, settings.text_encoder_learning_rate, settings.text_encoder_weight_decay) == (True, 5e-6, 1e-3)
    more = ["--train_text_encoder", "--text_encoder_lr=2e-5", "--adam_weight_decay_text_encoder=0.1"]
    settings = job_of(build_parser().parse_args([*words, *more])).settings
    assert (settings.text_encoder_learning_rate, settings.text_encoder_weight_decay, settings.learning_rate) == (2e-5, 0.1, 1e-4)
    assert not job_of(build_parser().parse_args(words)).settings.text_encoder
    for flag in more[1:]:
        name = flag.split("=")[0]
        with pytest.raises(FaceExprError, match=f"{name} was given without --train_text_encoder; add that, or leave {name} out"):
            job_of(build_parser().parse_args([*words, flag]))

    house = ["train", "--model=mini", f"--photos={subject_path()}", "--output=anna"]
    assert settings_of(_parser().parse_args(house)) == preset_settings("default", text_encoder=True)
    for preset, flag, wanted in (("default", "--no-train_text_encoder", False), ("paper", "--train_text_encoder", True)):
        assert settings_of(_parser().parse_args([*house, f"--preset={preset}", flag])) == preset_settings(preset, text_encoder=wanted)
    with pytest.raises(FaceExprError, match=r"text_encoder_learning_rate is 2\.0; give a value from 0 to 1"):
        settings_of(_parser().parse_args([*house, "--text_encoder_learning_rate=2"]))


def test_the_size_of_the_file_is_known_before(pipe: StableDiffusionXLPipeline) -> None:
    encoders = private(pipe)
    counted = lora_numbers(text_lora_shapes(encoders).values(), 4)
    layers = add_text_lora(encoders, 4, 4.0, seeded(1))
    assert counted == sum(down.numel() + up.numel() + 1 for down, up in layers.values())
