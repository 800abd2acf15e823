"""The pieces of the evidence: which command makes which tables, and a guess of how long it takes on two cores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LEARNED_ON_MINI = "learning_rate=6e-4,text_encoder_learning_rate=3e-4,batch_size=3,accumulation=1"
"""Mini's U-Net is 200 times smaller than SDXL's and needs larger steps."""

FROWNING = "learning_rate=6e-4,text_encoder_learning_rate=1e-3,batch_size=3,accumulation=1,init_lora_weights=kaiming"
"""As the template that it measures: without prior and crafting the text encoders bear it."""

TUNING, REPORTING = "100000-100005", "200000-200009"


@dataclass(frozen=True)
class Piece:
    """`module` is run with `arguments`, in which `{work}` stands for the folder of all that is kept; `table` is the file with the tables
    below that folder, "" where the command prints them. `hours`: a guess for two cores until the piece was run whole."""

    name: str
    about: str
    module: str
    arguments: tuple[str, ...]
    hours: float
    table: str = ""

    def command(self, work: Path) -> list[str]:
        return ["-m", self.module, *(one.replace("{work}", str(work)) for one in self.arguments)]

    def words(self, work: Path) -> str:
        """The command without the folder, so that another folder's name makes no other piece."""
        return " ".join(("python", "-m", self.module, *self.arguments))


def _kept(*arguments: str, processes: bool = True) -> tuple[str, ...]:
    return ("--work_dir", "{work}", *(("--processes", "2") if processes else ()), *arguments)


def _sites(name: str, about: str, hours: float, *arguments: str) -> Piece:
    given = _kept("--output_dir", f"{{work}}/{name}", *arguments)
    return Piece(name, about, "lab.benchmarks.fusion_sites", given, hours, f"{name}/table.md")


def _presets(album: str, hours: float) -> Piece:
    given = _kept("--output_dir", f"{{work}}/presets_{album}", "--album", album, "--subjects", REPORTING, "--seeds", "0-1")
    arms = ("--arms", "paper", "default:steps=400", "--common", LEARNED_ON_MINI)
    about = f"presets on {album} photos"
    return Piece(f"presets_{album}", about, "lab.benchmarks.presets", (*given, *arms), hours, f"presets_{album}/table.md")


DATA_SET = "--model mini --people 12 --expressions happy sad angry surprised --intensities 0.6 1 --steps 8 --judge blendshapes"

PIECES = (
    Piece("world", "the world's figures", "lab.world.check", ("--out", "{work}/world"), 0.2),
    Piece("mini_vae", "what Mini's VAE keeps", "lab.recipe.check", ("vae", "--output_dir", "{work}/mini"), 0.1),
    Piece("mini_base", "expressions of unseen people", "lab.recipe.check", ("base", "--output_dir", "{work}/mini"), 0.2),
    Piece("mini_attributes", "what is worn, and where", "lab.recipe.check", ("attributes", "--output_dir", "{work}/mini"), 0.3),
    Piece("mini_lora", "ten people learned", "lab.recipe.check", ("lora", "--people", "10", "--output_dir", "{work}/mini"), 1.0),
    _sites(
        "tune", "where to fuse, neutral text", 1.5, "--subjects", TUNING, "--seeds", "0-1", "--target_text", "neutral",
        "--arms", "cross_attention:strength=1/2", "cross_attention_difference:strength=0.8/1/1.6", "skip:strength=1/2", "paper", "none",
    ),
    _sites(
        "tune_text", "where to fuse, the expression's text", 1.0, "--subjects", TUNING, "--seeds", "0-1",
        "--arms", "cross_attention:strength=0.5/1/1.5", "cross_attention_difference:strength=0.5/1", "paper",
    ),
    _sites(
        "tune_settings", "settings of the difference", 1.0, "--subjects", TUNING, "--seeds", "0", "--target_text", "neutral",
        "--arms", "cross_attention_difference:strength=0.4/0.8/1/1.25", "cross_attention_difference:layers=all",
        "cross_attention_difference:mask=none/own/look", "cross_attention_difference:window=0-1/0.2-0.8/0.2-1",
        "cross_attention_difference:cap=0.6/100",
    ),
    _sites(
        "tune_photo", "another person's photo", 1.5, "--subjects", TUNING, "--seeds", "0", "--target_text", "neutral",
        "--arms", "cross_attention:donor=photo", "cross_attention:donor=photo/photo-drawn/photo-alone/photo-aside,mask=own",
        "cross_attention:donor=photo,mask=own,strength=0.75/1.25", "cross_attention:donor=photo,mask=own,cap=1/100",
        "cross_attention:donor=photo,mask=own,temperature=0.2/1",
        "cross_attention:donor=photo/photo-aside,mask=own,region_penalty=0",
        "cross_attention:donor=photo,mask=own,matching=no,strength=0.35/0.5/1",
        "cross_attention:donor=photo-aside,mask=own,matching=no,strength=0.5",
    ),
    _sites(
        "report", "does it help; a stranger's photo", 4.0, "--subjects", REPORTING, "--seeds", "0-3",
        "--arms", "paper", "cross_attention:strength=0.5", "paper:target=neutral",
        "cross_attention_difference:target=neutral,strength=1/0.5", "cross_attention_difference:target=neutral,mask=look",
        "cross_attention:target=neutral,donor=photo,mask=own",
    ),
    Piece("real_faces", "how far real expressions go", "lab.benchmarks.real_faces", _kept("--subjects", REPORTING, processes=False), 0.1),
    Piece("judges", "what the judges get right", "lab.benchmarks.judges", _kept("--subjects", REPORTING), 0.1),
    Piece("album_faces", "what albums are sorted by", "lab.benchmarks.album_faces", ("--people", "200000-200007"), 0.1),
    Piece("captions", "captions of photos", "lab.benchmarks.caption_precision", _kept("--subjects", "200000-200029"), 0.3),
    _presets("smiling", 2.0),
    _presets("mixed", 2.0),
    _presets("lively", 2.0),
    Piece(
        "ablation", "what each part does", "lab.benchmarks.ablation",
        _kept("--output_dir", "{work}/ablation", "--album", "smiling", "--subjects", REPORTING, "--seeds", "0-1",
              "--steps", "12", "--common", f"steps=400,{LEARNED_ON_MINI}"), 7.5, "ablation/table.md",
    ),
    Piece(
        "frowns", "a LoRA that always frowns", "lab.benchmarks.frowns",
        _kept("--output_dir", "{work}/frowns", "--subjects", REPORTING, "--seeds", "0-1", "--common", FROWNING), 0.3,
        "frowns/table.md",
    ),
    Piece(
        "best_of", "the best of four", "lab.benchmarks.best_of",
        _kept("--output_dir", "{work}/best_of", "--subjects", REPORTING, "--train", '{"steps": 400}'), 0.7, "best_of/best_of.md",
    ),
    Piece(
        "change", "changing a picture", "lab.benchmarks.change",
        _kept("--output_dir", "{work}/change", "--subjects", REPORTING, "--arms", "redraw", "strong", "lora", "image_to_image",
              "render"), 0.4,
        "change/table.md",
    ),
    Piece(
        "dataset_classifier", "what a data set teaches", "lab.benchmarks.dataset_classifier",
        ("--data", "{work}/dataset", "--make", DATA_SET, "--subjects", REPORTING, "--steps", "250"), 0.4,
    ),
    Piece("seen_faces", "where faces are seen, steady samplers", "lab.benchmarks.seen_faces", ("--work_dir", "{work}/seen_faces"), 0.3,
          "seen_faces/seen_faces.md"),
    Piece("cost", "what fusion costs", "lab.benchmarks.fusion_cost", (), 0.2),
    Piece("crafting_floor", "where the crafting loss stops", "lab.benchmarks.crafting_floor", ("--batches", "16"), 0.2),
    Piece("base_bits", "a base of four or eight bits", "lab.benchmarks.base_bits", ("--steps", "200", "--seeds", "1"), 0.3),
)  # fmt: skip
