"""A person dressed for a picture: every triangle, texture and static point that does not depend on expression, camera or light."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
import warp as wp

from . import accessories
from .assets import PLAIN_GARMENTS, Parts
from .attach import Part, placed
from .covers import HEADSCARF, Cover, cover_on, hidden_skin
from .hair import Shell, sheet_fade, sheet_points, sheet_texture, shells_of, strand_texture, tangents_of
from .identity import Person
from .maps import noise
from .mesh import head_mesh, incidence_of, normals_of, phenotype_vertices, skin_incidence
from .raster import BROW, CLOTH, EYE, FRAME, HAIR, LENS, SHELL, SKIN, TEETH, TONGUE, Surface
from .scene import Outfit
from .skin import skin_texture

BROW_POINT, CHIN_POINT = (0.030, -0.147, 0.750), (0.0, -0.1403, 0.6177)
"""Metres in the template: between them lies the height of the face."""
PART_BACKGROUND, PART_SKIN, PART_HAIR, PART_EYE, PART_BROW, PART_MOUTH, PART_OTHER = range(7)
CASTER = PART_OTHER


@dataclass(frozen=True, eq=False)
class Body:
    """N points in groups (`skin`, `eyes`, `hair` ...), V base vertices behind them as coarse casters of shade."""

    person: Person
    vertices: np.ndarray  # [V, 3] neutral
    points: np.ndarray  # [N, 3] on the neutral head; the moving groups are placed anew for each picture
    normals: np.ndarray  # [N, 3] likewise
    tangents: np.ndarray  # [N, 3] likewise
    sheets: np.ndarray  # [N] 1 where lit from both sides
    groups: dict[str, slice]
    followers: dict[str, tuple[Part, np.ndarray, sp.csr_matrix]]  # moving part, its triangles, their incidence
    shells: tuple[tuple[str, Shell, int], ...]  # group, shell, layer from 1
    cover: Cover | None
    drawn: int  # triangles to draw; the rest cast shade only
    casters: wp.array  # triangles of the surroundings' maps
    shadowers: wp.array  # triangles of the key light's map
    surface: Surface
    paints: wp.array
    brow: np.ndarray
    chin: np.ndarray
    eyes: np.ndarray  # [3] between the eyes


class _Builder:
    def __init__(self) -> None:
        self.triangles: list[np.ndarray] = []
        self.uv: list[np.ndarray] = []
        self.info: list[np.ndarray] = []
        self.layers: list[np.ndarray] = []
        self.points: list[np.ndarray] = []
        self.extra: list[np.ndarray] = []
        self.groups: dict[str, slice] = {}
        self.textures: list[tuple[np.ndarray, bool]] = []
        self.paints: list[tuple[float, float, float, float]] = []
        self.count = 0

    def texture(self, image: np.ndarray, repeats: bool = False) -> int:
        if image.ndim == 2:
            image = np.dstack([np.full_like(image, 128)] * 3 + [image])
        elif image.shape[2] == 3:
            image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        self.textures.append((np.ascontiguousarray(image), repeats))
        return len(self.textures) - 1

    def paint(self, colour: tuple[float, float, float] | np.ndarray, cover: float = 1.0) -> int:
        self.paints.append((float(colour[0]), float(colour[1]), float(colour[2]), cover))
        return len(self.paints) - 1

    def add(self, name: str, points: np.ndarray, triangles: np.ndarray, uv: np.ndarray, kind: int, texture: int, part: int, paint: int = 0,
            soft: bool = False, layer: float = 0.0, extra: np.ndarray | None = None) -> None:
        self.triangles.append(triangles + self.count)
        self.uv.append(np.asarray(uv, np.float32).reshape(-1, 6))
        self.info.append(np.tile(np.array([int(kind), texture, int(soft), part, paint], np.int32), (len(triangles), 1)))
        self.layers.append(np.full(len(triangles), layer, np.float32))
        self.points.append(np.asarray(points, np.float32))
        self.extra.append(np.zeros(len(points), np.float32) if extra is None else np.asarray(extra, np.float32))
        self.groups[name] = slice(self.count, self.count + len(points))
        self.count += len(points)


_bodies: OrderedDict[tuple, Body] = OrderedDict()
_textures: OrderedDict[tuple, np.ndarray] = OrderedDict()
KEPT_BODIES, KEPT_TEXTURES = 3, 8


def body_of(person: Person, outfit: Outfit, parts: Parts, detail: float) -> Body:
    """The dressed head; the last few are kept."""
    key = (person, outfit, id(parts), detail)
    if key not in _bodies:
        _bodies[key] = _build(person, outfit, parts, detail)
    return _kept(_bodies, key, KEPT_BODIES)


def _kept(store, key, most):
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)
    return store[key]


@lru_cache(maxsize=4)
def neutral_vertices(person: Person) -> np.ndarray:
    """float32 [V, 3] the resting head."""
    mesh = head_mesh()
    local = np.asarray(person.local, np.float32)
    weights = np.stack([local.clip(0), (-local).clip(0)], 1).ravel()
    used = np.flatnonzero(weights)
    vertices = phenotype_vertices(dict(person.phenotypes)) + np.tensordot(weights[used], mesh.local_shapes[used], 1)
    for unit, weight in person.resting:
        vertices = vertices + np.float32(weight) * mesh.unit_shapes[mesh.unit_labels.index(unit)]
    return vertices.astype(np.float32)


def _skin_texture(person: Person, parts: Parts, detail: float) -> np.ndarray:
    key = (person, "skin", id(parts), detail)
    if key not in _textures:
        _textures[key] = skin_texture(person, parts, detail)
    return _kept(_textures, key, KEPT_TEXTURES)


def _eye_texture(person: Person, parts: Parts, detail: float) -> np.ndarray:
    key = (person, "eye", id(parts), detail)
    if key not in _textures:
        _textures[key] = _dimmed_eye(person, parts, detail)
    return _kept(_textures, key, KEPT_TEXTURES)


def _dimmed_eye(person: Person, parts: Parts, detail: float) -> np.ndarray:
    """MakeHuman's irises glow: they are dimmed and greyed."""
    image = parts.picture(f"eyes/{person.eye}.jpg", int(512 * detail)).astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    saturation = (image.max(-1, keepdims=True) - image.min(-1, keepdims=True)) / (image.max(-1, keepdims=True) + 1)
    iris = np.clip(saturation * 3.2 - 0.35, 0, 1)
    chosen = grey[iris > 0.5]
    dim = float(np.clip(62 / (np.median(chosen) + 1), 0.45, 1.0)) if len(chosen) else 1.0
    image = image * (1 - iris) + (grey + (image - grey) * 0.6) * dim * iris
    return np.asarray(np.clip(image * np.array(person.eye_gain, np.float32), 0, 255), np.uint8)


@lru_cache(maxsize=1)
def fabric() -> np.ndarray:
    rng = np.random.default_rng(6)
    weave = 190 + 10 * noise((256, 256), 0.6, rng) + 6 * noise((256, 256), 12, rng)
    return np.asarray(np.clip(np.dstack([weave] * 3), 0, 255), np.uint8)


def skin_normals(skin: np.ndarray) -> np.ndarray:
    """[S, 3] of the subdivided skin."""
    return normals_of(skin, head_mesh().triangles, skin_incidence())


def _build(person: Person, outfit: Outfit, parts: Parts, detail: float) -> Body:
    mesh, shapes = head_mesh(), parts.geometry
    vertices = neutral_vertices(person)
    skin = np.asarray(mesh.subdivision @ vertices, np.float32)
    smoothed = vertices.copy()
    smoothed[mesh.skin_base] = skin[: len(mesh.skin_base)]
    b = _Builder()
    b.paint((1, 1, 1), 0.0)
    skin_picture = b.texture(_skin_texture(person, parts, detail))
    garment = shapes[f"cloth.{outfit.garment}"]
    below = np.zeros(len(vertices), bool)
    below[garment.deleted] = True
    kept = ~below[mesh.quads[mesh.parent]].all(1)
    if outfit.cover != "none":
        kept &= ~hidden_skin(outfit.cover)
    b.add("skin", skin, mesh.triangles[kept], mesh.uv_painted[kept], SKIN, skin_picture, PART_SKIN, extra=mesh.cavity)

    followers: dict[str, Part] = {}

    def follow(name: str, shape: Part, chosen: np.ndarray | slice = slice(None), on: np.ndarray = vertices, **rest) -> None:
        followers[name] = shape
        b.add(name, placed(shape, on), shape.triangles[chosen], shape.uv[chosen], **rest)

    eyes = shapes["eyes"]
    no_cornea = np.asarray(~((eyes.uv[..., 0] > 0.85) & (eyes.uv[..., 1] > 0.85)).any(1))
    follow("eyes", eyes, no_cornea, kind=EYE, texture=b.texture(_eye_texture(person, parts, detail)), part=PART_EYE)
    follow("teeth", shapes["teeth"], kind=TEETH, texture=b.texture(parts.picture("mouth/teeth.jpg", 256)), part=PART_MOUTH,
           paint=b.paint((1.0, 0.95, 0.86)))
    follow("tongue", shapes["tongue"], kind=TONGUE, texture=b.texture(parts.picture("mouth/tongue.jpg", 128)), part=PART_MOUTH,
           paint=b.paint((0.55, 0.42, 0.42)))
    follow("brow", shapes[f"brow.{person.brow}"], on=smoothed, kind=BROW,
           texture=b.texture(parts.picture(f"brows/{person.brow}.png", 256)), part=PART_BROW,
           paint=b.paint(person.brow_colour), soft=True, layer=person.brow_strength)
    follow("lash", shapes[f"lash.{person.lash}"], on=smoothed, kind=BROW,
           texture=b.texture(parts.picture(f"lashes/{person.lash}.png", 256)), part=PART_EYE,
           paint=b.paint((0.012, 0.010, 0.010)), soft=True, layer=person.lash_strength)

    plain = outfit.plain or outfit.garment in PLAIN_GARMENTS
    cloth = fabric() if plain else parts.picture(f"clothes/{outfit.garment}.jpg", int(768 * detail))
    dye = b.paint(np.array(outfit.garment_colour) ** 2.2, 1.0 if outfit.plain else 0.55)
    b.add("cloth", placed(garment, vertices), garment.triangles, garment.uv, CLOTH, b.texture(cloth), PART_OTHER, dye)
    still = ["cloth"]

    hair_paint = b.paint(person.hair_colour)
    sheet = shapes.get(f"hair.{person.hair_style}")
    if sheet is not None and outfit.cover != HEADSCARF:
        b.add("hair", sheet_points(sheet, person, vertices), sheet.triangles, sheet.uv, HAIR,
              b.texture(sheet_texture(parts, person.hair_style, detail)), PART_HAIR, hair_paint, soft=True,
              extra=sheet_fade(sheet, person, outfit.cover))
        still.append("hair")
    cover = None
    if outfit.cover != "none":
        cover = cover_on(outfit.cover, skin, person.seed)
        b.add("cover", cover.points, cover.triangles, cover.uv, CLOTH, b.texture(cover.texture, True), PART_OTHER,
              b.paint(np.array(outfit.cover_colour) ** 2.2))
        still.append("cover")
    if outfit.glasses:
        frame, lenses = accessories.glasses(vertices, person.glasses)
        b.add("frame", *frame, np.zeros((len(frame[1]), 6)), FRAME, skin_picture, PART_OTHER, b.paint(person.frame, 0.0))
        b.add("lens", *lenses, np.zeros((len(lenses[1]), 6)), LENS, skin_picture, PART_OTHER, soft=True)
        still += ["frame", "lens"]
    if outfit.earrings != "none":
        rings = accessories.earrings(vertices, outfit.earrings)
        b.add("earrings", *rings, np.zeros((len(rings[1]), 6)), FRAME, skin_picture, PART_OTHER,
              b.paint(accessories.METALS[outfit.metal], 1.0))
        still.append("earrings")
    shells = _add_shells(b, person, outfit, skin)

    drawn = sum(len(t) for t in b.triangles)
    b.add("base", vertices, mesh.coarse, np.zeros((len(mesh.coarse), 6)), SKIN, skin_picture, CASTER)
    points, triangles, uv = np.concatenate(b.points), np.concatenate(b.triangles).astype(np.int32), np.concatenate(b.uv)
    normals, tangents = np.zeros_like(points), np.zeros_like(points)
    tangents[:, 2] = -1
    starts = np.cumsum([0] + [len(t) for t in b.triangles])
    spans = {name: slice(starts[k], starts[k + 1]) for k, name in enumerate(b.groups)}
    for name in still:
        at = b.groups[name]
        own = triangles[spans[name]] - at.start
        normals[at] = normals_of(points[at], own, incidence_of(own, at.stop - at.start))
        if name == "hair" and sheet is not None:
            tangents[at] = tangents_of(points[at], own, sheet.uv)
    sheets = np.zeros(len(points), np.float32)
    if "hair" in b.groups:
        sheets[b.groups["hair"]] = 1

    middle = {name for name, shell, layer in shells if layer == (shell.layers + 1) // 2}
    solid = {"cloth", "hair", "cover"} & set(b.groups)
    info = np.concatenate(b.info)
    lips = np.zeros(len(points), np.float32)
    lips[b.groups["skin"]] = np.maximum(mesh.lips, mesh.cavity)
    brow, chin = mesh.nearest(BROW_POINT), mesh.nearest(CHIN_POINT)
    faces = {name: part.triangles if name != "eyes" else part.triangles[no_cornea] for name, part in followers.items()}
    return Body(
        person=person, vertices=vertices, points=points, normals=normals, tangents=tangents, sheets=sheets[: b.groups["base"].start],
        groups=b.groups, followers={name: (part, faces[name], incidence_of(faces[name], part.count)) for name, part in followers.items()},
        shells=shells, cover=cover, drawn=drawn, casters=_faces(spans, solid | middle | {"base"}),
        shadowers=_faces(spans, solid | middle | ({"skin", "brow", "lash", "frame"} & set(b.groups))),
        surface=_surface(b, triangles, uv, info, lips), paints=wp.array(np.array(b.paints, np.float32), dtype=wp.vec4, device="cpu"),
        brow=vertices[brow], chin=vertices[chin], eyes=np.mean([vertices[eye].mean(0) for eye in mesh.eyes], 0),
    )


def _add_shells(b: _Builder, person: Person, outfit: Outfit, skin: np.ndarray) -> tuple[tuple[str, Shell, int], ...]:
    found: list[tuple[str, Shell, int]] = []
    shells = shells_of(person, outfit.cover)
    if not shells:
        return ()
    strands = b.texture(strand_texture(), True)
    hair, beard = b.paint(person.hair_colour), b.paint(person.beard_colour)
    for shell in shells:
        for layer in range(1, shell.layers + 1):
            name = f"shell{len(found)}"
            uv = shell.uv + shell.frizz * np.array([np.sin(2.1 * layer), np.cos(1.7 * layer)])
            b.add(name, skin[shell.used], shell.triangles, uv, SHELL, strands, PART_HAIR, beard if shell.beard else hair, soft=True,
                  layer=layer / shell.layers, extra=shell.density)
            found.append((name, shell, layer))
    return tuple(found)


def _faces(spans: dict[str, slice], names: set[str]) -> wp.array:
    numbers = np.concatenate([np.arange(spans[name].start, spans[name].stop) for name in spans if name in names])
    return wp.array(numbers.astype(np.int32), dtype=wp.int32, device="cpu")


def _surface(b: _Builder, triangles: np.ndarray, uv: np.ndarray, info: np.ndarray, lips: np.ndarray) -> Surface:
    table, offset = [], 0
    for image, repeats in b.textures:
        table.append([offset, image.shape[1], image.shape[0], int(repeats)])
        offset += image.size
    surface = Surface()
    for name, values, kind in (
        ("triangles", triangles, wp.int32), ("uv", uv, wp.float32), ("info", info, wp.int32),
        ("layer", np.concatenate(b.layers), wp.float32),
        ("extra", np.concatenate(b.extra), wp.float32), ("lips", lips, wp.float32), ("table", np.array(table, np.int32), wp.int32),
        ("texels", np.concatenate([image.ravel() for image, _ in b.textures]), wp.uint8),
    ):
        setattr(surface, name, wp.array(values, dtype=kind, device="cpu"))
    return surface
