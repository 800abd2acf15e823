"""The nodes, one file each."""

from comfy_api.latest import ComfyExtension, io

from .expression_text_encode import ExpressionTextEncode
from .load_mini import LoadMini
from .load_subject_images import LoadSubjectImages
from .sampler import Sampler
from .train_lora import TrainLoRA


class FaceExprExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadSubjectImages, TrainLoRA, ExpressionTextEncode, Sampler, LoadMini]
