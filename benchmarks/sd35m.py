"""A pipeline of SD3.5-Medium's shape with random weights, in memory."""

from __future__ import annotations

from typing import Any


def transformer(tiny: bool = False) -> Any:
    """Return the transformer, on torch's default device."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2 if tiny else 24,
        attention_head_dim=64,
        num_attention_heads=2 if tiny else 24,
        joint_attention_dim=128 if tiny else 4096,
        caption_projection_dim=128 if tiny else 1536,
        pooled_projection_dim=96 if tiny else 2048,
        pos_embed_max_size=384,
        dual_attention_layers=(0,) if tiny else tuple(range(13)),
        qk_norm="rms_norm",
    )


def vae(tiny: bool = False) -> Any:
    """Return the autoencoder, on torch's default device."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4 if tiny else (128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def thin_vae() -> Any:
    """Return an autoencoder of as many latents that costs next to nothing."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def sd35m(device: str, tiny: bool = False, dtype: Any = None) -> Any:
    """Return the pipeline on that device: encoders in bfloat16, transformer and VAE in ``dtype``,
    by default float32. ``tiny`` is a thin one, to try a program with.
    """
    import torch

    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        StableDiffusion3Pipeline,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        T5Config,
        T5EncoderModel,
    )

    from soar_bench.checkpoints import pipeline_folder
    from soar_bench.pipelines.loading import load_pipeline

    words = load_pipeline(pipeline_folder("shapes"))  # its tokenizers: any ids will do
    widths = (32, 64) if tiny else (768, 1280)

    def clip(width: int, layers: int, heads: int, act: str) -> Any:
        config = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            hidden_act=act,
            vocab_size=49408,
        )
        return CLIPTextModelWithProjection(config).to(torch.bfloat16).eval()

    t5 = T5Config(
        d_model=128 if tiny else 4096,
        d_kv=64,
        d_ff=256 if tiny else 10240,
        num_layers=1 if tiny else 24,
        num_heads=2 if tiny else 64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with torch.device(device):
        pipeline = StableDiffusion3Pipeline(
            transformer=transformer(tiny),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(tiny).eval(),
            text_encoder=clip(widths[0], 1 if tiny else 12, 1 if tiny else 12, "quick_gelu"),
            tokenizer=words.tokenizer,
            text_encoder_2=clip(widths[1], 1 if tiny else 32, 1 if tiny else 20, "gelu"),
            tokenizer_2=words.tokenizer_2,
            text_encoder_3=T5EncoderModel(t5).to(torch.bfloat16).eval(),
            tokenizer_3=words.tokenizer_3,
        )
    pipeline.tokenizer_max_length = 77
    pipeline.tokenizer.model_max_length = pipeline.tokenizer_2.model_max_length = 77
    if dtype is not None:
        pipeline.transformer.to(dtype)
        pipeline.vae.to(dtype)
    return pipeline
