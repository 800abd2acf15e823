"""The nodes, one file each."""

from comfy_api.latest import ComfyExtension, io

from .apply_attention_focused_fusion import ApplyAttentionFocusedFusion
from .change_expression import ChangeExpression
from .expression_sheet import ExpressionSheet
from .expression_text_encode import ExpressionTextEncode
from .extract_expression_features import ExtractExpressionFeatures
from .host.aliases import add_aliases
from .load_features import LoadFeatures
from .load_lora import LoadLoRA
from .load_mini import LoadMini
from .load_subject_images import LoadSubjectImages
from .sampler import Sampler
from .save_features import SaveFeatures
from .score import Score
from .train_lora import TrainLoRA


class FaceExprExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        nodes = [
            LoadSubjectImages,
            TrainLoRA,
            ExpressionTextEncode,
            ExtractExpressionFeatures,
            ApplyAttentionFocusedFusion,
            SaveFeatures,
            LoadFeatures,
            Sampler,
            LoadMini,
            LoadLoRA,
            Score,
            ChangeExpression,
            ExpressionSheet,
        ]
        return [add_aliases(node) for node in nodes]
