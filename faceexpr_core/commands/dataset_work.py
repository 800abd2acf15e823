"""One process's share of a data set: people found by their portraits, pictures drawn and measured. Processes meet in the files alone."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

from ..dataset.cast import Cast, check_splits, choose, keep_portrait, portrait_file
from ..dataset.plan import MAKING, places_of
from ..dataset.run import Dataset, draw_place
from ..errors import FaceExprError
from ..evaluation import records
from ..measure.judges import Judges
from ..measure.picture_score import NEUTRAL
from .dataset_plan import about_of, meaning_of
from .drawing import drawn_by, open_drawer
from .sharing import Share, wait_for
from .telling import Pictures, say

if TYPE_CHECKING:
    from ..dataset.people import Candidate
    from ..evaluation.draw import Drawer
    from ..measure.judges import Picture


class Worker:
    """Does what is missing of this process's share."""

    def __init__(self, arguments: argparse.Namespace, run: Dataset, share: Share) -> None:
        self.arguments, self.run, self.share, self.began = arguments, run, share, time.time()

    def keep_meaning(self) -> None:
        """Raise FaceExprError where the folder holds other things, or pictures that were drawn in another way than is asked now."""
        output = self.run.output
        if output.is_dir() and any(output.iterdir()) and not (output / MAKING).is_dir():
            raise FaceExprError(f"{output} holds other files than those of a data set of faceexpr; give an empty --output_dir.")
        meaning = output / MAKING / "run.json"
        begun = any(any(meaning.parent.glob(files)) for files in ("portraits/[!.]*", "records/*.jsonl"))
        records.keep_meaning(meaning, {**drawn_by(self.arguments), **meaning_of(self.run.plan)}, begun, whole=True)

    def find_people(self) -> Cast:
        """Who comes in; this process draws its share of the portraits, and waits for the others'. Tells who was refused. Raises
        FaceExprError where too few are left."""
        output, plan = self.run.output, self.run.plan
        while (cast := choose(output, plan)).unknown:
            mine = [one for one in cast.unknown if self._number(one) % self.share.processes == self.share.rank]
            if mine:
                say(f"drawing {len(mine)} people's portraits")
                with closing(Pictures(len(mine), self.share.rank == 0)) as shown, Judges() as judges:
                    for one in mine:
                        keep_portrait(output, plan, one, lambda one=one: self._portrait(one), judges)  # type: ignore[misc]
                        shown.step()
            for one in cast.unknown:
                file = portrait_file(output, one).with_suffix(".json")
                wait_for(file.exists, f"the portrait of {one.name}")
        check_splits(plan, cast)
        if self.share.rank == 0:
            for one, kept in cast.refused:
                say(f"{one.name} ({one.words}) is refused: {'; '.join(kept['reasons'])}")
        self.run.check_nothing_left_out(cast.people)
        return cast

    def draw(self, cast: Cast) -> None:
        """The pictures of this process's share. Raises FaceExprError, and OSError where the disk takes no more."""
        mine = [pair for pair in self.share.of(places_of(self.run.plan, cast.people)) if self.run.missing(pair[1])]
        if not mine:
            return
        missing = self.run.count_missing(place for _, place in mine)
        with closing(Pictures(missing, self.share.rank == 0)) as shown, Judges() as judges:
            for one, place in mine:
                draw_place(self.run, cast, one, place, lambda: self._drawer, judges, shown.step)

    def count_missing(self, cast: Cast) -> int:
        return self.run.count_missing(place for _, place in places_of(self.run.plan, cast.people))

    def write(self, cast: Cast) -> None:
        """Metadata and card; tells what was rejected, and where a card goes that would have overwritten the maker's."""
        from ..dataset import figures
        from ..dataset.card import CARD, build_card, write_card
        from ..dataset.layout import light_rows, picture_path, write_layout
        from ..evaluation.run import read_picture

        found = light_rows(self.run, cast)
        kept = figures.kept(found)
        if not kept:
            raise FaceExprError(f"all {len(found)} pictures were rejected; {self.run.output / 'rejected'} holds them. {_reasons(found)}")
        write_layout(self.run, cast, {str(row["split"]) for row in found}, self.began)
        height, width = read_picture(picture_path(self.run.output, kept[0])).shape[:2]
        about = about_of(self.arguments, self.run, (width, height))
        card = write_card(self.run.output, build_card(self.run, cast, found, about, self.arguments.license))
        say(f"{len(kept)} pictures of {len(cast.people)} people; rejected {len(found) - len(kept)}. {_reasons(found)}")
        if gone := self.run.count_gone(cast.people):
            say(f"{gone} pictures were deleted or moved since they were drawn, and are left out; another --output_dir has all")
        if card.name != CARD:
            say(f"{CARD} was changed by somebody and is left as it is; the new card is {card.name}")

    @staticmethod
    def _number(one: Candidate) -> int:
        return int(one.name.rpartition("_")[2])

    def _portrait(self, one: Candidate) -> Picture:
        plan = self.run.plan
        return self._drawer.draw(plan.grid.arms[0], one.lora, one.person, plan.portrait(one), NEUTRAL, 1.0)

    @cached_property
    def _drawer(self) -> Drawer:
        return open_drawer(self.arguments, self.share.device(self.arguments.device))


def _reasons(found: list[dict[str, object]]) -> str:
    from ..dataset.figures import reasons

    return "; ".join(f"{reason}: {count}" for reason, count in reasons(found)[1:])
