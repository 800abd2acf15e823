"""Does Mini draw what a prompt says is worn, and where? `python -m lab.recipe.check attributes`.

Each attribute has a reader of its own, a ridge regression on the aligned face that learned on renders of tuning people with and without
it; the place is read from the frame of the picture. What the readers make of renders of reporting people is the ceiling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faceexpr_core import mini, text
from faceexpr_core.diffusers_host import encoding, sampling
from faceexpr_core.faces.detector import Face, FaceDetector
from faceexpr_core.fusion.run import Run
from lab.world import captions
from lab.world.backgrounds import PLACES, TINTS, background
from lab.world.covers import HATS, HEADSCARF
from lab.world.expressions import Shown
from lab.world.identity import EARS_SHOW, FABRICS, REPORTING_IDENTITIES, TUNING_IDENTITIES, Person, fabric_colour, person_of
from lab.world.picture import picture
from lab.world.render import draw
from lab.world.scene import LIGHT_WORDS, Outfit, lights_of, outfit_of, scene_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

Picture = NDArray[np.uint8]
Features = NDArray[np.float32]
SIDE = 80
"""Pixels along the aligned face."""
EYES = (0.39, 0.61, 0.58)
"""Where the eyes come to lie: across, across, down, as shares of SIDE; above them is room for a hat."""
FRAME, ABOVE_SHOULDERS = 0.15, 0.75
"""Of the picture's width, on the left and on the right, and of its height: what the place is read from."""
FACE_RIDGE, FRAME_RIDGE = 0.3, 3.0
COLOURS_WEIGH = 0.5
PLAIN, NO_FACE = "plain", "no face"


@dataclass(frozen=True)
class Attribute:
    """`words` go into the prompt; `fits` says of whom it can be asked; `put_on` makes the render show it, of a person without any."""

    name: str
    words: str
    fits: Callable[[Person], bool]
    put_on: Callable[[Person, Outfit, np.random.Generator], tuple[Person, Outfit]]
    colour: str = ""  # that the words name, a key of TINTS


def _covered(kinds: Sequence[str]) -> Callable[[Person, Outfit, np.random.Generator], tuple[Person, Outfit]]:
    def put_on(person: Person, outfit: Outfit, rng: np.random.Generator) -> tuple[Person, Outfit]:
        return person, replace(outfit, cover=str(rng.choice(kinds)), cover_colour=fabric_colour(str(rng.choice(list(FABRICS))), rng))

    return put_on


ATTRIBUTES = (
    Attribute("glasses", "wearing glasses", lambda _: True, lambda person, outfit, _: (person, replace(outfit, glasses=True))),
    Attribute("hat", "wearing a red knit cap", lambda _: True, _covered(HATS), "red"),
    Attribute("headscarf", f"wearing a blue {HEADSCARF}", lambda person: person.gender == "woman", _covered((HEADSCARF,)), "blue"),
    Attribute("beard", "with a beard", lambda person: person.gender == "man",
              lambda person, outfit, _: (replace(person, beard="full"), outfit)),
    Attribute("earrings", "hoop earrings", lambda person: person.gender == "woman" and person.hair_style in EARS_SHOW,
              lambda person, outfit, _: (person, replace(outfit, earrings="hoops"))),
)  # fmt: skip
LEARNED_ON, CHECKED_ON = TUNING_IDENTITIES[:80], REPORTING_IDENTITIES[:30]
"""People of the readers' renders: tuning people, and reporting people for the ceiling."""
SCENES_A_PERSON = 3
SCENES: dict[str, str] = {**{name: f"{name} background" for name in TINTS}, **{name: place.words for name, place in PLACES.items()}}
"""Key of the world -> words of a caption."""


def rendered(seed: int, attribute: Attribute | None, number: int = 0) -> Picture:
    """A person at rest with nothing on but the attribute: uint8 [192, 192, 3]; the same scene whatever is on."""
    person, rng = replace(person_of(seed), beard="none"), np.random.default_rng([91, seed, number])
    outfit = replace(outfit_of(person, rng), cover="none", cover_word="", glasses=False, earrings="none")
    scene = scene_of(rng)
    if attribute is not None:
        person, outfit = attribute.put_on(person, outfit, rng)
    return draw(person, outfit, {}, scene)[0]


def aligned(picture: Picture, face: Face) -> Features:
    """What a face looks like turned upright and scaled by its eyes: HOG of SIDE x SIDE pixels, and colours 10 x 10 less their mean."""
    left, right = (face.landmarks[[one, other], :2].mean(0) for one, other in ((33, 133), (362, 263)))
    across, middle = right - left, (left + right) / 2
    scale = (EYES[1] - EYES[0]) * SIDE / float(np.hypot(*across))
    turn = float(np.degrees(np.arctan2(across[1], across[0])))
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), turn, scale)
    matrix[:, 2] += (SIDE / 2 - middle[0], EYES[2] * SIDE - middle[1])
    square = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    shape = np.asarray(cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9).compute(square), np.float32).ravel()
    colours = cv2.resize(square, (10, 10), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.concatenate([shape, COLOURS_WEIGH * (colours - colours.mean()).ravel()]).astype(np.float32)


def framed(picture: Picture) -> Features:
    """What lies left and right of the person: colours where they lie, the same whichever side is which, and how frequent they are."""
    width = round(FRAME * picture.shape[1])
    sides = np.concatenate([picture[:, :width], picture[:, -width:]], 1)[: round(ABOVE_SHOULDERS * len(picture))]
    small, fine = (cv2.resize(sides, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for size in ((8, 12), (32, 64)))
    both = np.stack([small, small[:, ::-1]])
    frequent = np.asarray(np.histogramdd(fine.reshape(-1, 3), 5, [(0, 1)] * 3)[0]).ravel() / fine[..., 0].size
    return np.concatenate([both.mean(0).ravel(), both.std(0).ravel(), 3 * np.sqrt(frequent)]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Reader:
    """Ridge regression of one-hot classes [n]: `weights` [f, n] on features less `mean` [f], plus `bias` [n]."""

    classes: tuple[str, ...]
    mean: Features
    weights: Features
    bias: Features

    def read(self, features: Features) -> str:
        return self.classes[int(((features - self.mean) @ self.weights + self.bias).argmax())]


def learned(features: Sequence[Features], labels: Sequence[str], ridge: float) -> Reader:
    """A reader of these examples."""
    classes = tuple(dict.fromkeys(labels))
    given = np.stack(features)
    wanted = np.array([[float(label == name) for name in classes] for label in labels], np.float32)
    mean, bias = given.mean(0), wanted.mean(0)
    centred = given - mean
    weights = centred.T @ np.linalg.solve(centred @ centred.T + ridge * np.eye(len(given), dtype=np.float32), wanted - bias)
    return Reader(classes, mean, weights, bias)


def face_readers(people: Sequence[int], detector: FaceDetector) -> dict[str, Reader]:
    """For each of ATTRIBUTES one that reads its name or PLAIN, learned on renders of these people."""
    plain = {seed: _looked(rendered(seed, None), detector) for seed in people}
    readers = {}
    for one in ATTRIBUTES:
        fitting = [seed for seed in people if one.fits(person_of(seed))]
        examples = [(plain[seed], PLAIN) for seed in fitting] + [(_looked(rendered(seed, one), detector), one.name) for seed in fitting]
        known = [(features, label) for features, label in examples if features is not None]
        readers[one.name] = learned([features for features, _ in known], [label for _, label in known], FACE_RIDGE)
    return readers


def scene_reader(seeds: Sequence[int]) -> Reader:
    """Of SCENES, learned on the world's backgrounds without a person."""
    examples = []
    for seed in seeds:
        for name in SCENES:
            rng = np.random.default_rng([92, seed])
            lights = lights_of(str(rng.choice(LIGHT_WORDS)), rng)
            seen = np.clip(background(name, lights, seed, 96), 0, 1) ** (1 / 2.2)
            examples.append((framed((255 * seen).astype(np.uint8)), name))
    return learned([features for features, _ in examples], [name for _, name in examples], FRAME_RIDGE)


def _looked(picture: Picture, detector: FaceDetector) -> Features | None:
    faces = detector.detect(picture)
    return aligned(picture, faces[0]) if faces else None


@dataclass(frozen=True, eq=False)
class Tally:
    """What was read: `asked` of the pictures that ask for an attribute, `plain` of those of the same people that do not."""

    asked: Counter[str]
    plain: Counter[str]

    def shares(self, name: str) -> tuple[float, float, int]:
        """Shares read as the attribute where it was asked and where it was not, and how many asked."""
        return self.asked[name] / max(self.asked.total(), 1), self.plain[name] / max(self.plain.total(), 1), self.asked.total()


def tallied(
    people: Sequence[int], show: Callable[[int, Attribute | None], Picture], readers: dict[str, Reader], detector: FaceDetector
) -> tuple[dict[str, Tally], list[list[Picture]]]:
    """What the readers make of pictures of people with and without each attribute; a picture without a face is read as NO_FACE."""
    tallies = {one.name: Tally(Counter(), Counter()) for one in ATTRIBUTES}
    rows = []
    for seed in people:
        fitting = [one for one in ATTRIBUTES if one.fits(person_of(seed))]
        pictures = [show(seed, one) for one in (None, *fitting)]
        rows.append(pictures)
        plain, *worn = (_looked(picture, detector) for picture in pictures)
        for one, features in zip(fitting, worn, strict=True):
            read = readers[one.name].read
            tallies[one.name].asked[NO_FACE if features is None else read(features)] += 1
            tallies[one.name].plain[NO_FACE if plain is None else read(plain)] += 1
    return tallies, rows


def check_attributes(
    pipe: StableDiffusionXLPipeline, people: int, cfg: float, steps: int, **_others: Any
) -> tuple[dict[str, Any], list[list[Picture]]]:
    """Of captions of unseen people that ask for an attribute, and of the same without it, the shares that show it; places read as asked.

    `renders_` are the same shares of renders: [asked, not asked, how many asked]. Places are of 19, so that chance is 5 %. `wall_`: how
    often a colour that was asked for what is worn is the wall's, with the words and without.
    """
    seeds = range(CHECKED_ON.start, CHECKED_ON.start + people)
    with FaceDetector() as detector:
        readers, places = face_readers(LEARNED_ON, detector), scene_reader(range(60))
        renders, _ = tallied(CHECKED_ON, rendered, readers, detector)
        told, rows = tallied(seeds, partial(_asked, pipe, cfg, steps), readers, detector)
    figures: dict[str, Any] = {"people": people}
    for one in ATTRIBUTES:
        figures |= {one.name: told[one.name].shares(one.name), f"renders_{one.name}": renders[one.name].shares(one.name)}
        if one.colour:
            figures[f"wall_{one.colour}_with_{one.name}"] = coloured_walls(one, seeds, rows, places)
    names, read = list(SCENES), Counter[str]()
    for number, seed in enumerate(seeds):
        wanted = [names[(SCENES_A_PERSON * number + k) % len(names)] for k in range(SCENES_A_PERSON)]
        shown = [drawn(pipe, cfg, steps, seed, SCENES[name]) for name in wanted]
        read.update(f"{name}>{places.read(framed(one))}" for name, one in zip(wanted, shown, strict=True))
        rows[number] += shown
    known = [(name, picture(seed, 60_000 + k, Shown(), background=name)) for k, name in enumerate(names) for seed in CHECKED_ON[:3]]
    figures["places"] = sum(count for pair, count in read.items() if len(set(pair.split(">"))) == 1) / read.total()
    figures["renders_places"] = np.mean([places.read(framed(one.image)) == name for name, one in known])
    return figures | {"places_read": dict(read)}, rows


def coloured_walls(one: Attribute, people: Sequence[int], rows: Sequence[Sequence[Picture]], places: Reader) -> tuple[float, float]:
    """How often the wall has the colour that the words give to what is worn, and how often without these words; rows of `tallied`."""
    found = []
    for seed, row in zip(people, rows, strict=True):
        fitting = [other for other in ATTRIBUTES if other.fits(person_of(seed))]
        if one in fitting:
            found.append([places.read(framed(row[number])) == one.colour for number in (1 + fitting.index(one), 0)])
    asked, plain = np.mean(found, axis=0).tolist()
    return asked, plain


def _asked(pipe: StableDiffusionXLPipeline, cfg: float, steps: int, seed: int, attribute: Attribute | None) -> Picture:
    return drawn(pipe, cfg, steps, seed, *([] if attribute is None else [attribute.words]))


def drawn(pipe: StableDiffusionXLPipeline, cfg: float, steps: int, seed: int, *words: str) -> Picture:
    """What the model draws of a person's caption with these words in it, at rest, from the person's own noise."""
    person = person_of(seed)
    about = {"age": person.age, "gender": person.gender, "hair": person.hair, "hair_style": person.style_word}
    hair = [] if any(HEADSCARF in word for word in words) else [captions.hair(about)]
    prompt = ", ".join([f"a photo of {captions.person(about)}", f"{person.skin} skin", *hair, *words])
    built = text.build_prompts(prompt, text.expression_terms("neutral"), partial(encoding.count_tokens, pipe))
    side = mini.RESOLUTION
    found: Picture = sampling.generate(pipe, built, Run(seed, steps, cfg, side, side))[0].numpy()
    return found
