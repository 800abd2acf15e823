"""The help page's table of what works with what: every row of it is held by tests, and every row of the tests' table stands in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fusion_graphs import GUIDANCE
from test_fusion_table import TABLE

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "web" / "docs" / "FaceExprSampler.md"
PACKS = "test_fusion_compositions.py::test_beside_another_pack_the_fusion_does_what_it_does_alone"

HELD: dict[str, tuple[str, ...]] = {
    "Conditioning (Combine)": (
        "combine",
        "test_fusion_daily.py::test_combined_texts_draw_the_expression_in_either_order",
        "test_fusion_daily.py::test_texts_without_a_counterpart_are_told",
    ),
    "Conditioning (Concat), (Average)": ("concat", "average"),
    "area, mask, mask bounds, time range, ControlNet, GLIGEN on *positive*": (
        *("areas", "area of the negative", "mask on the conditioning", "mask bounds", "timestep range", "GLIGEN", "ControlNet"),
        "test_fusion_daily.py::test_what_belongs_to_places_and_times_stays_while_the_neutral_text_is_drawn",
        "test_fusion_daily.py::test_the_neutral_text_is_drawn_with_the_controlnet_of_the_positive_one",
        "test_fusion_passes.py::test_the_neutral_text_is_drawn_with_the_boxes_of_the_positive_one",
        "test_fusion_compositions.py::test_a_mask_lies_over_the_picture_where_a_conditioning_has_an_area",
        "test_look.py::test_the_face_of_an_area_is_the_one_that_lies_in_it",
        "test_look.py::test_the_face_of_a_masked_text_is_the_one_that_lies_in_its_mask",
    ),
    "two people, each with a text and an area or a mask": (
        "test_templates_drawn.py::test_of_two_people_each_has_an_expression_of_its_own",
        "test_fusion_masked_texts.py::test_of_two_people_in_masks_each_gets_its_own_expression",
    ),
    "LoRA hooks on a text, by a schedule too; a default text": (
        *("LoRA hooks", "LoRA hooks by a schedule", "default text"),
        "test_fusion_hooks.py::test_each_evaluation_has_the_hooks_of_its_text_in_every_layer",
        "test_fusion_hooks.py::test_the_base_model_knows_nothing_of_a_text_s_person",
    ),
    "a batch; image to image; a noise mask (inpainting)": (
        *("nothing else", "image to image", "noise mask"),
        "test_fusion_compositions.py::test_each_picture_of_a_batch_has_a_mask_of_its_own",
        "test_fusion_daily.py::test_the_face_is_seen_in_the_picture_that_is_drawn_and_not_in_the_base_models",
        "test_fusion_daily.py::test_small_faces_outside_a_noise_mask_are_left_alone",
        "test_look.py::test_of_several_faces_the_one_that_is_drawn_is_meant",
    ),
    "a text of its own for each picture of a batch (batch prompt schedules)": (
        "test_fusion_own_texts.py::test_each_picture_is_fused_with_its_own_text",
        "test_fusion_own_texts.py::test_features_are_of_one_text_and_others_are_refused_by_name",
    ),
    "a second pass at another size": (
        "test_later_passes.py::test_a_later_pass_over_the_same_picture_keeps_the_features_mask_at_any_size",
        "test_later_passes.py::test_what_ran_before_changes_nothing",
        "test_later_passes.py::test_after_a_restart_the_same_graph_draws_the_same_picture",
        "test_look.py::test_each_picture_is_decoded_at_the_first_change_and_once_more_later",
    ),
    "tiled VAE nodes": (
        "test_fusion_passes.py::test_the_face_is_seen_where_comfyui_has_no_room_but_for_tiles",
        "test_fusion_passes.py::test_tiled_nodes_around_a_fused_run",
    ),
    "steps divided between two models (KSampler (Advanced), SplitSigmas)": (
        "steps left by another sampler",
        "test_fusion_passes.py::test_fusion_acts_in_the_steps_of_the_model_that_has_it",
        "test_fusion_passes.py::test_a_window_that_lies_in_the_other_part_changes_nothing_and_that_is_told",
        "test_fusion_passes.py::test_in_refiner_steps_the_face_is_seen_before_the_first_change",
    ),
    "cfg 1, CFGGuider, DualCFGGuider (both styles), Perp-Neg, BasicGuider, SamplerCustomAdvanced, a guider with a cfg for each step": (
        *("cfg 1", "nothing else", "DualCFGGuider", "DualCFGGuider, nested", "Perp-Neg", "BasicGuider", "a cfg for each step"),
        "test_fusion_table.py::test_of_a_list_of_cfgs_that_of_the_step_counts",
        "test_fusion_table.py::test_a_cfg_that_is_no_number_reduces_nothing_and_that_is_told_once",
    ),
    "LoRA, FreeU, FreeU V2, PAG, HyperTile, Kohya Deep Shrink, IPAdapter's kind of patch": (
        *("LoRA", "FreeU", "FreeU_V2", "PAG", "HyperTile", "Deep Shrink", "IPAdapter", "attn2 output", PACKS),
        "test_fusion_compositions.py::test_under_deep_shrink_the_fusion_goes_where_the_words_would",
    ),
    "SAG, RescaleCFG, Mahiro, APG, TCFG, CFGZeroStar, CFGNorm, FreSca, Epsilon Scaling, "
    "UNetSelfAttentionMultiply, UNetCrossAttentionMultiply": (*GUIDANCE, "self-attention multiplied", "cross-attention multiplied"),
    "merged models (ModelMergeSimple, ModelMergeBlocks)": ("merged", "merged by blocks"),
    "ConditioningZeroOut, Differential Diffusion; InpaintModelConditioning with a base model": (
        "negative zeroed out",
        "Differential Diffusion",
        "Inpaint Model Conditioning",
    ),
    "every sampler and scheduler of KSampler; the sampling of few-step models (ModelSamplingDiscrete)": (
        "test_fusion_whole_runs.py::test_fusion_acts_with_every_sampler_that_comfyui_offers",
        "test_fusion_whole_runs.py::test_fusion_acts_on_every_schedule_that_comfyui_offers",
        "test_fusion_whole_runs.py::test_fusion_acts_on_the_schedule_of_a_few_step_model",
    ),
    "EasyCache, LazyCache": ("test_fusion_whole_runs.py::test_fusion_acts_where_steps_are_taken_from_a_cache",),
    "CLIP Set Last Layer": ("test_fusion_whole_runs.py::test_with_another_layer_of_the_text_encoders_the_expression_is_fused_as_it_reads",),
    "texts of regions within the attention (attention couple)": (
        *("attention couple", PACKS),
        "test_fusion_rearranged.py::"
        "test_where_texts_of_regions_share_the_attention_the_expression_acts_under_its_mask_whatever_comes_first",
    ),
    "tiles that another pack draws at each step (Tiled Diffusion)": (
        "test_fusion_rearranged.py::test_in_tiles_nothing_is_changed_where_rows_or_mask_are_not_known_and_that_is_told",
    ),
    "a compiled model (TorchCompileModel)": (
        "test_fusion_rearranged.py::test_a_compiled_network_is_fused_as_the_plain_one",
        "test_fusion_rearranged.py::test_a_compiled_network_that_was_drawn_without_fusion_is_fused_all_the_same",
    ),
    "a MODEL that is sampled as a flow (ModelSamplingSD3)": (
        "test_flows.py::test_the_window_of_a_fusion_lies_where_a_flow_has_as_much_noise",
        "test_flows.py::test_a_face_is_not_drawn_over_by_a_flow",
        "test_flows.py::test_features_of_noise_levels_are_not_taken_of_a_flow",
    ),
    "a MODEL that is sampled by EDM (Playground v2.5, ModelSamplingContinuousEDM)": (
        "test_flows.py::test_where_the_picture_varies_by_half_there_is_twice_the_noise",
        "test_flows.py::test_the_window_of_a_fusion_lies_where_a_flow_has_as_much_noise",
        "test_flows.py::test_a_face_is_drawn_over_by_edm",
        "test_flows.py::test_features_of_noise_levels_are_not_taken_of_a_flow",
    ),
    "two fusions": (
        "two fusions",
        "test_fusion_comfy.py::test_two_fusions_add_up_and_their_order_of_clones_does_not_matter",
        "test_fusion_compositions.py::test_two_fusions_with_a_mask_each",
    ),
    "an inpainting model, a refiner, another family": ("test_refused_models.py::test_a_model_that_is_not_sdxls_is_refused_by_name",),
}
"""Rows of the help page: rows of `TABLE`, and tests (file::test)."""


def test_every_row_of_the_help_page_is_held_by_tests() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| in the graph | with fusion |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    assert sorted(rows) == sorted(HELD)


@pytest.mark.parametrize("row", HELD)
def test_the_tests_of_a_row_exist(row: str) -> None:
    for name in HELD[row]:
        file, _, test = name.partition("::")
        assert name in TABLE if not test else re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_row_of_the_tests_table_stands_on_the_help_page() -> None:
    assert TABLE.keys() <= {name for names in HELD.values() for name in names}
