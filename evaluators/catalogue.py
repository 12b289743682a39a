"""Weight files of the built-in evaluators, pinned.

A digest or size is here if at least two independent public projects that pin the same file agree
on it (searched in November 2026). Files without one (``_Unpinned``) are pinned by revision, their
structure is compared with the architecture's (:mod:`evaluators.structure`), and the first fetch
records their digests. The digests of Mask2Former, AlexNet and Inception begin with the digits in
their publishers' file names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluators import structure
from evaluators.weights import WeightFile, Weights, hub


@dataclass(frozen=True)
class _Unpinned:
    """A file without a known digest: bytes to expect, and what its structure is compared with."""

    about: int
    structure: Callable[[Path], str]


def _of_hub(
    name: str,
    repo: str,
    revision: str,
    files: dict[str, tuple[int, str] | _Unpinned],
    licence: str,
    paper: str = "",
) -> Weights:
    """Return the files, with their sizes and digests, of a hub repository at a revision."""
    listed = [
        replace(hub(repo, revision, path), about=pin.about, structure=pin.structure)
        if isinstance(pin, _Unpinned)
        else hub(repo, revision, path, size=pin[0], sha256=pin[1])
        for path, pin in files.items()
    ]
    return Weights(name, tuple(listed), licence, "; ".join(filter(None, (repo, paper))))


def _single(name: str, address: str, licence: str, source: str, **pin: Any) -> Weights:
    """Return the one file at an address, named as there; ``pin`` is what is known of it."""
    return Weights(name, (WeightFile(address.rpartition("/")[2], address, **pin),), licence, source)


#: All CLIPs have the same words, in files that are written otherwise.
_CLIP_WORDS: dict[str, tuple[int, str] | _Unpinned] = {
    "vocab.json": _Unpinned(862_328, structure.clip_vocabulary),
    "merges.txt": _Unpinned(524_619, structure.clip_merges),
}

CLIP_VIT_L_14 = _of_hub(
    "clip-vit-l-14",
    "openai/clip-vit-large-patch14",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    {
        "config.json":
            (4_519, "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a"),
        "model.safetensors":
            (1_710_540_580, "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"),
        "vocab.json":
            (961_143, "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69"),
        "merges.txt":
            (524_619, "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"),
    },
    "MIT (openai/CLIP)",
    "arXiv 2103.00020",
)  # fmt: skip

CLIP_VIT_L_14_336 = _of_hub(
    "clip-vit-l-14-336",
    "openai/clip-vit-large-patch14-336",
    "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
    {
        "config.json": _Unpinned(4_800, structure.clip_336_config),
        "pytorch_model.bin": _Unpinned(1_711_900_000, structure.clip_336_model),
        **_CLIP_WORDS,
    },
    "MIT (openai/CLIP)",
    "arXiv 2103.00020",
)  # fmt: skip

#: The vocabulary that all CLIP models share, from the repository that PickScore takes it from.
CLIP_TOKENIZER = _of_hub(
    "clip-tokenizer",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    _CLIP_WORDS,
    "MIT",
)

PICKSCORE = _of_hub(
    "pickscore",
    "yuvalkirstain/PickScore_v1",
    "a4e4367c6dfa7288a00c550414478f865b875800",
    {
        "config.json": _Unpinned(4_500, structure.pickscore_config),
        "model.safetensors": _Unpinned(3_944_500_000, structure.pickscore_model),
    },
    "not stated by its authors; the code is MIT",
    "arXiv 2305.01569",
)

_HPS_SHA256 = "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837"
HPS_V2_1 = _of_hub(
    "hps-v2.1",
    "xswu/HPSv2",
    "697403c78157020a1ae59d23f111aa58ced35b0a",
    {"HPS_v2.1_compressed.pt": (1_972_490_005, _HPS_SHA256)},
    "Apache-2.0",
    "arXiv 2306.09341",
)

IMAGE_REWARD = _of_hub(
    "image-reward",
    "zai-org/ImageReward",
    "5736be03b2652728fb87788c9797b0570450ab72",
    {"ImageReward.pt": _Unpinned(1_787_000_000, structure.image_reward)},
    "Apache-2.0",
    "arXiv 2304.05977",
)

_BERT_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
BERT_TOKENIZER = _of_hub(
    "bert-tokenizer",
    "google-bert/bert-base-uncased",
    "86b5e0934494bd15c9632b12f734a8a67f723594",
    {"vocab.txt": (231_508, _BERT_SHA256)},
    "Apache-2.0",
)

#: The original, which the released script asks at 480 pixels; the hub's copy is made for 384. Its
#: publisher gives neither a revision nor a digest, so it is not among the pinned ones below: its
#: structure is compared, and the first fetch records the digest, which every record then has.
BLIP_VQA = _single(
    "blip-vqa-base",
    "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/"
    "model_base_vqa_capfilt_large.pth",
    "BSD-3-Clause",
    "salesforce/BLIP; arXiv 2201.12086",
    about=1_446_000_000,
    structure=structure.blip_vqa,
)

AESTHETIC = _single(
    "aesthetic",
    "https://raw.githubusercontent.com/christophschuhmann/improved-aesthetic-predictor/"
    "6934dd81792f086e613a121dbce43082cb8be85e/sac+logos+ava1-l14-linearMSE.pth",
    "Apache-2.0",
    "christophschuhmann/improved-aesthetic-predictor",
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    size=3_714_759,
)

MASK2FORMER = _single(
    "mask2former-swin-s",
    "https://download.openmmlab.com/mmdetection/v2.0/mask2former/"
    "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco/"
    "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
    "Apache-2.0",
    "open-mmlab/mmdetection, configs/mask2former; arXiv 2112.01527",
    sha256="743b7d99015f1224c6d57fd4b14d04b15cc8ec72ae7ee7831e7c71d8873b7a54",
    about=276_000_000,
)

DINOV2 = _of_hub(
    "dinov2-base",
    "facebook/dinov2-base",
    "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    {
        "config.json": _Unpinned(600, structure.dinov2_config),
        "model.safetensors": _Unpinned(346_400_000, structure.dinov2_model),
    },
    "Apache-2.0",
    "arXiv 2304.07193",
)

ALEXNET = _single(
    "alexnet",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "BSD-3-Clause (torchvision)",
    "pytorch/vision, AlexNet_Weights.IMAGENET1K_V1",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    about=244_400_000,
)

LPIPS_HEADS = _single(
    "lpips-alex",
    "https://github.com/richzhang/PerceptualSimilarity/raw/"
    "c33f89e9f46522a584cf41d8880eb0afa982708b/lpips/weights/v0.1/alex.pth",
    "BSD-2-Clause",
    "richzhang/PerceptualSimilarity; arXiv 1801.03924",
    sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    size=6_009,
)

INCEPTION = _single(
    "inception-2015-12-05",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    "Apache-2.0",
    "toshas/torch-fidelity, converted from TensorFlow's inception-2015-12-05",
    sha256_prefix="6726825d",
    about=95_600_000,
)

_PARTS = {
    f"model-{i:05d}-of-00004.safetensors": _Unpinned(4_400_000_000, structure.qwen3_vl_part)
    for i in range(1, 5)
}
QWEN3_VL_8B = _of_hub(
    "qwen3-vl-8b",
    "Qwen/Qwen3-VL-8B-Instruct",
    "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    {
        "config.json": _Unpinned(1_400, structure.qwen3_vl_config),
        "tokenizer.json": _Unpinned(7_032_000, structure.qwen_tokenizer),
        "model.safetensors.index.json": _Unpinned(70_000, structure.qwen3_vl_index),
        **_PARTS,
    },
    "Apache-2.0",
    "arXiv 2511.21631",
)

#: Configuration and tokenizer of the model that HPSv3 was trained from.
QWEN2_VL_7B_FORM = _of_hub(
    "qwen2-vl-7b-form",
    "Qwen/Qwen2-VL-7B-Instruct",
    "eed13092ef92e448dd6875b2a00151bd3f7db0ac",
    {
        "config.json": _Unpinned(1_200, structure.qwen2_vl_config),
        "tokenizer.json": _Unpinned(7_031_000, structure.qwen_tokenizer),
    },
    "Apache-2.0",
    "arXiv 2409.12191",
)

HPS_V3 = _of_hub(
    "hps-v3",
    "MizzenAI/HPSv3",
    "4f81e3e09edd82fe3c5f636444c721b592a735ca",
    {"HPSv3.safetensors": _Unpinned(16_600_000_000, structure.hps_v3)},
    "Apache-2.0",
    "arXiv 2508.03789",
)

_UNIFIED_REWARD = (
    "https://raw.githubusercontent.com/CodeGoat24/UnifiedReward/"
    "ff6f520247a2d36e2aff7b2ba53a935afd437f66/inference_qwen/"
)
_HY_SOAR = (
    "https://raw.githubusercontent.com/Tencent-Hunyuan/HY-SOAR/"
    "59f0e02da8e59343e5bbfaeb6be6169341b8020a/soar/flow_grpo/"
)
#: Scripts of the authors and of the Flow-GRPO family, for what they ask the model; read as text.
UNIFIED_REWARD_QUESTIONS = Weights(
    name="unified-reward-questions",
    files=tuple(
        WeightFile(name, f"{folder}{name}", sha256=sha256, size=size)
        for folder, name, sha256, size in (
            (f"{_UNIFIED_REWARD}image_generation/", "qwen_point_score_image_generation.py",
             "5c8c2efcb7f07283a3a4b3685043e2da0ee909c876829a9edbe4938a4881971c", 2_184),
            (f"{_UNIFIED_REWARD}UnifiedReward-2.0-inference/",
             "point_score_ACS_image_generation.py",
             "fa67c436c6742084b43581d17bf3c98fa53aad5816ccd5ec39717c27c2a1dfa3", 1_853),
            (_HY_SOAR, "unifiedreward_scorer.py",
             "de2c7db5e4ca3e0125895e67a7886c108ce720530fc038f98f5709724b3ae057", 3_256),
        )
    ),
    licence="MIT (UnifiedReward); Apache-2.0 (HY-SOAR)",
    source="CodeGoat24/UnifiedReward; Tencent-Hunyuan/HY-SOAR; arXiv 2503.05236",
)  # fmt: skip

ALL: tuple[Weights, ...] = (
    CLIP_VIT_L_14, CLIP_TOKENIZER, PICKSCORE, HPS_V2_1, IMAGE_REWARD, BERT_TOKENIZER, AESTHETIC,
    MASK2FORMER, CLIP_VIT_L_14_336, INCEPTION, DINOV2, ALEXNET, LPIPS_HEADS,
    QWEN3_VL_8B, QWEN2_VL_7B_FORM, HPS_V3, UNIFIED_REWARD_QUESTIONS,
)  # fmt: skip
