"""Who may come into a data set: people described in words, and learned ones with their LoRA files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FaceExprError
from ..evaluation.people import Person
from ..lora.given import digest_of_lora, name_of_lora
from ..lora.words import said_words, split_words
from .traits import Traits, describe_person

DESCRIBED, LEARNED = "described", "learned"
TRIES = 4
"""Described people are looked for among this many times as many as are asked, and SPARE more."""
SPARE = 10


@dataclass(frozen=True)
class Candidate:
    """`name`: in the data set's files, no word of the user's. `person`: the words for prompts. `seeds`: of the noise, one for a described
    person, who is words and noise together. `lora` and `file`, its digest and name: of a learned person."""

    name: str
    person: Person
    seeds: tuple[int, ...]
    traits: Traits | None = None
    lora: Path | None = None
    digest: str = ""

    @property
    def kind(self) -> str:
        return DESCRIBED if self.lora is None else LEARNED

    @property
    def meaning(self) -> dict[str, object]:
        """What the name stands for: of a described person words and noise, which another version may draw otherwise."""
        return {"words": self.words, "lora": self.digest} if self.traits is None else {"words": self.words, "seeds": list(self.seeds)}

    @property
    def words(self) -> str:
        """What stands in a prompt for the person."""
        return self.person.anybody if self.lora is None else self.person.words


def described(seed: int, number: int) -> Candidate:
    """The described person of a number, from 0."""
    traits, noise = describe_person(seed, number)
    name = f"{DESCRIBED}_{number:05}"
    return Candidate(name, Person(name, Path(), "", traits.words()), (noise,), traits)


def learned(files: Sequence[Path], words: Mapping[str, str], seeds: tuple[int, ...]) -> list[Candidate]:
    """A candidate for each LoRA, a file or a PEFT adapter's folder, in their order. Its words are `words` of its `name_of_lora`, else what
    the file says.

    Raises FaceExprError for a file that cannot be read, one that does not say its words, one that comes twice, and words for none of them.
    """
    called = [name_of_lora(file) for file in files]
    if unknown := [name for name in words if name not in called]:
        raise FaceExprError(f"--lora_words names '{unknown[0]}', but the LoRAs are: {', '.join(called) or 'none'}.")
    found: list[Candidate] = []
    for number, file in enumerate(files):
        digest = digest_of_lora(file)
        said = split_words(words[called[number]]) if called[number] in words else said_words(file)
        if said is None:
            raise FaceExprError(
                f"the LoRA {file} does not say which words it learned; give them: --lora_words {called[number]}='TRIGGER CLASS'."
            )
        if twin := next((one for one in found if one.digest == digest), None):
            raise FaceExprError(f"the LoRA {file} is the same as {twin.lora}; give each person once.")
        name = f"{LEARNED}_{number:05}"
        found.append(Candidate(name, Person(name, Path(), *said), seeds, lora=file, digest=digest))
    return found


def parse_words(given: Iterable[str]) -> dict[str, str]:
    """`anna=ohwx woman` by name. Raises FaceExprError."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value.strip()):
            raise FaceExprError(f"--lora_words {one}: write NAME='TRIGGER CLASS', such as anna='ohwx woman', NAME being the file's.")
        found[name] = value.strip()
    return found
