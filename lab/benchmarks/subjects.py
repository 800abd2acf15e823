"""Unseen people of Mini's world: photos, what they look like to SFace, and a LoRA of each, all kept in a folder.

    python -m lab.benchmarks.subjects --work_dir WORK --subjects 100000-100005 --processes 2

Seeds from 100,000 are for tuning, from 200,000 for reporting. What is there is not made again; a killed training goes on from its last
state.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceexpr_core import mini
from faceexpr_core.diffusers_host import encoding, pipeline, sampling
from faceexpr_core.errors import FaceExprError
from faceexpr_core.evaluation.run import read_picture, write_picture
from faceexpr_core.expressions import EXPRESSIONS
from faceexpr_core.fusion.run import Run
from faceexpr_core.measure.identity import IdentityMeter
from faceexpr_core.measure.judges import Picture
from faceexpr_core.training.prior import CLASS_CFG, CLASS_STEPS
from faceexpr_core.training.settings import BACKGROUND_WEIGHT, PRIOR_IMAGES, TrainSettings
from lab.recipe.check import QUICK_START

from .albums import MIXED, PHOTO_SIDE, album_photos
from .store import write_json
from .workers import each

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from faceexpr_core.training.prior import ClassImage
    from faceexpr_core.training.result import Step

PHOTOS = 6
DONOR_STEP = 50_000
"""The seed of a subject's photo donor lies this much further, in the same range and far from any subject."""


@dataclass(frozen=True)
class Person:
    """A person whose photos of an album lie in `folder`; `gender` is the class word."""

    seed: int
    folder: Path
    gender: str
    album: str = MIXED

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """Unit vector [128]: what SFace makes of the photos."""
        return np.array(json.loads((self.folder / "person.json").read_text())["reference"], np.float32)

    def photos(self) -> list[Picture]:
        return [read_picture(self.folder / f"photo_{number}.png") for number in range(PHOTOS)]


def class_noise(person: int, noise: int) -> int:
    """The seed from which the class is drawn for a person: one of the person's own. From one noise all people of a class word would be
    measured on the same few pictures of the model without a LoRA."""
    return noise + 1000 * (1 + person % 1000)


def people_folder(work: Path, album: str = MIXED) -> Path:
    """Where the photos of an album lie, a folder a person."""
    return work / ("people" if album == MIXED else f"people_{album}")


def person(work: Path, seed: int, album: str = MIXED) -> Person:
    """The person of a seed with an album of ALBUMS; photos are rendered and measured the first time."""
    folder = people_folder(work, album) / str(seed)
    about = folder / "person.json"
    if not about.exists():
        photos = album_photos(album, seed, PHOTOS)
        for number, photo in enumerate(photos):
            write_picture(folder / f"photo_{number}.png", photo.image)
        with IdentityMeter() as meter:
            reference = meter.reference(photo.image for photo in photos)
        write_json(about, {"gender": photos[0].attributes["gender"], "reference": reference.tolist()})
    return Person(seed, folder, json.loads(about.read_text())["gender"], album)


def expressive_photo(work: Path, seed: int, expression: str) -> Picture:
    """A photo [PHOTO_SIDE, PHOTO_SIDE, 3] of a person with an expression of the vocabulary at full strength."""
    from lab.world.dataset import expression_sheet

    folder = work / "people" / str(seed) / "expressions"
    if not (folder / "done").exists():
        for shown in expression_sheet(seed, size=PHOTO_SIDE):
            write_picture(folder / f"{shown.attributes['expression']}.png", shown.image)
        write_json(folder / "done", True)
    return read_picture(folder / f"{EXPRESSIONS[expression].word}.png")


def lora_file(
    work: Path,
    seed: int,
    settings: TrainSettings,
    base: str,
    background_weight: float = BACKGROUND_WEIGHT,
    album: str = MIXED,
    class_captions: bool = True,
    class_cfg: float = CLASS_CFG,
) -> Path:
    """Where the LoRA of a person lies: one file for each set of settings, album and base model (its hash)."""
    from faceexpr_core.training.data import digest_of

    made = chosen_settings(settings)
    if background_weight != BACKGROUND_WEIGHT:
        made["background_weight"] = background_weight
    if settings.draws_class:
        made |= {"prior_images": PRIOR_IMAGES, "class_cfg": class_cfg}
    if album != MIXED:
        made["album"] = album
    if not class_captions:
        made["class_captions"] = False
    return work / "loras" / f"{seed}-{digest_of(json.dumps(made).encode(), base.encode())}.safetensors"


ADDED_LATER: Mapping[str, Any] = {"init_lora_weights": "kaiming", "prior_target": "noise", "prior_dropout": 0.0}
"""Settings that came when LoRAs were kept already, by name, with what those had: left out where it is that, so that they are found."""


def chosen_settings(settings: TrainSettings) -> dict[str, Any]:
    """All that a LoRA learned with; the trainer's own defaults too, which may become others."""
    used = settings.used()
    return {
        name: value for name, value in asdict(settings).items() if name not in ADDED_LATER or (ADDED_LATER[name] != value and name in used)
    }


def class_pictures(work: Path, pipe: StableDiffusionXLPipeline, class_word: str, cfg: float = CLASS_CFG) -> list[ClassImage]:
    """What the base model draws of the class for L_prior, as the command line draws it; once for all subjects of the class."""
    from faceexpr_core import text
    from faceexpr_core.training.fingerprint import model_digest
    from faceexpr_core.training.prior import prior_images, prior_prompts

    side = mini.RESOLUTION

    def draw(prompt: str, seed: int) -> Picture:
        words = text.ExpressionPrompt(prompt, (prompt,), (1.0,))
        drawn = sampling.generate(pipe, words, Run(seed, CLASS_STEPS, cfg, side, side))
        picture: Picture = drawn[0].numpy()
        return picture

    class_prompt = f"a photo of a {class_word}"
    made = {"model": model_digest(pipe.unet), "prompt": class_prompt, "resolution": side, "steps": CLASS_STEPS, "cfg": cfg}
    return prior_images(work / "class_images", prior_prompts(class_prompt, PRIOR_IMAGES), draw, made)


def draw_class(work: Path, model: str, class_word: str) -> str:
    """`class_pictures` in a process of its own."""
    from .tools import pipeline

    return f"{len(class_pictures(work, pipeline(model), class_word))} pictures of a {class_word}"


def learn(
    work: Path,
    pipe: StableDiffusionXLPipeline,
    one: Person,
    settings: TrainSettings,
    base: str,
    background_weight: float = BACKGROUND_WEIGHT,
    class_captions: bool = True,
    class_cfg: float = CLASS_CFG,
    on_step: Callable[[Step], None] | None = None,
) -> Path:
    """The file of a person's LoRA, trained if it is not there, with all parts of the loss that `settings` have.

    `base` is the hash of the pipeline's U-Net. Without `class_captions` the words of the prior's pictures do not say their expressions;
    they are drawn with guidance `class_cfg`. `on_step` is told of every step, as `train_lora` has it.
    """
    import copy

    from faceexpr_core.faces.images import read_images
    from faceexpr_core.lora.kohya import save_result
    from faceexpr_core.photos.subject import SubjectSettings, prepare_subject
    from faceexpr_core.training.crafting import build_crafting_set
    from faceexpr_core.training.data import build_training_set
    from faceexpr_core.training.loop import train_lora
    from faceexpr_core.training.prior import build_class_set
    from faceexpr_core.training.state import StateFolder
    from faceexpr_core.training.text_encoders import TextEncoders

    path = lora_file(work, one.seed, settings, base, background_weight, one.album, class_captions, class_cfg)
    if path.exists():
        return path
    chosen = SubjectSettings(class_word=one.gender, resolution=mini.RESOLUTION, framing="whole picture")
    subject = prepare_subject(read_images(one.folder), chosen)
    encode_text, encode_images = partial(encoding.encode_prompts, pipe), partial(encoding.encode_images, pipe)
    encoders = tokenize = None
    if settings.text_encoder:
        encoders = TextEncoders(copy.deepcopy(pipe.text_encoder), copy.deepcopy(pipe.text_encoder_2))
        tokenize = partial(encoding.tokenize_prompts, pipe)
    data = build_training_set(subject, encode_text, encode_images, background_weight, settings.captions, settings.flip, tokenize)
    class_images = crafting = None
    if settings.draws_class:
        drawn = class_pictures(work, pipe, one.gender, class_cfg)
        if not class_captions:
            drawn = [replace(image, prompt=f"a photo of a {one.gender}") for image in drawn]
        class_images = build_class_set(drawn, encode_text, encode_images, tokenize)
    if settings.prior == "distill" or settings.crafting_weight:
        size = (data.latents.shape[-2], data.latents.shape[-1]) if settings.crafting_mask else None
        count_tokens = partial(encoding.count_tokens, pipe)
        crafting = build_crafting_set(subject, encode_text, count_tokens, size, settings.flip, tokenize)
    states = StateFolder(work / "states" / path.stem, every=100)
    unet = copy.deepcopy(pipe.unet)
    result = train_lora(unet, data, settings, on_step, class_images=class_images, crafting=crafting, states=states, encoders=encoders)
    if result.stopped_by is not None:
        raise result.stopped_by
    save_result(path, result, settings, subject, background_weight=background_weight)
    states.clear()
    return path


def personalised(pipe: StableDiffusionXLPipeline, lora: Path, strength: float = 1.0) -> StableDiffusionXLPipeline:
    """A pipeline with the LoRA in the weights of its own U-Net and text encoders, which costs nothing per step; the rest is shared."""
    import copy

    from diffusers import StableDiffusionXLPipeline

    from faceexpr_core.commands.loras import load_loras

    own = {name: copy.deepcopy(getattr(pipe, name)) for name in ("unet", "text_encoder", "text_encoder_2")}
    personal = StableDiffusionXLPipeline(**{**pipe.components, **own}, add_watermarker=False)
    load_loras(personal, [lora], strength)
    personal.fuse_lora()
    personal.unload_lora_weights()
    return personal


def base_hash(pipe: StableDiffusionXLPipeline) -> str:
    """Sixteen digits for the U-Net's weights."""
    from faceexpr_core.lora.kohya import base_model_hash

    return base_model_hash(pipe.unet)[:16]


def train_settings(changes: str) -> TrainSettings:
    """Mini's quick start with changes from JSON. Raises FaceExprError."""
    try:
        return replace(QUICK_START, **json.loads(changes))
    except (TypeError, ValueError) as reason:
        raise FaceExprError(f"--train {changes} is no JSON object of settings of a training run ({reason}).") from reason


def seeds(words: Sequence[str]) -> list[int]:
    """Seeds from words such as `100000` and `100000-100005`, in order, each once."""
    found: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(found))


def add_arguments(parser: argparse.ArgumentParser, train: bool = True) -> None:
    """What says who is learned, from what and, with `train`, how."""
    parser.add_argument("--work_dir", type=Path, required=True, help="photos, LoRAs and donors are kept here, for all benchmarks")
    parser.add_argument("--model", default="mini", help="'mini', or a folder with another version of it")
    parser.add_argument("--subjects", nargs="+", default=["100000-100005"], help="seeds: 100000 and up tuning, 200000 and up reporting")
    if train:
        parser.add_argument("--train", default="{}", help='JSON of changes to the quick start\'s training, such as {"steps": 5}')
    parser.add_argument("--processes", type=int, default=2, help="subjects are shared out among these, one thread each")


@dataclass(frozen=True)
class Preparation:
    """What makes a subject ready, in a process of its own."""

    work: Path
    model: str
    settings: TrainSettings

    def __call__(self, seed: int) -> str:
        pipe = pipeline.load_pipeline(self.model)
        one = person(self.work, seed)
        return f"{seed}: a {one.gender}, {learn(self.work, pipe, one, self.settings, base_hash(pipe)).name}"


def prepare(arguments: argparse.Namespace) -> None:
    """People and LoRAs for all subjects of the arguments."""
    chosen = seeds(arguments.subjects)
    make: Any = Preparation(arguments.work_dir, arguments.model, train_settings(arguments.train))
    for line in each(make, chosen, arguments.processes):
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    prepare(parser.parse_args())


if __name__ == "__main__":
    main()
