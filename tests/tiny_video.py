"""Tiny random pipelines of the video families beyond AnimateDiff, built offline as in `tests.tiny`."""

from pathlib import Path

import torch
from diffusers import (
    AnimateDiffSDXLPipeline,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    UNetMotionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    LlamaConfig,
    LlamaModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.tiny import MOTION_LENGTH, TEXT_WIDTH, linear_scheduler, shake, tokenizer
from tests.tiny_image import T5_TOKENS, T5_WIDTH, sdxl, t5, t5_tokenizer

FPS = 12
"""Of LTX; another than the pipeline's own 25."""
HUNYUAN_TOKENS = 30
"""As `T5_TOKENS`, and what ends the instruction."""


def sdxl_motion() -> MotionAdapter:
    """To go with `tiny_image.sdxl`; as SDXL's published motion, with none in the middle block."""
    torch.manual_seed(41)
    model = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=MOTION_LENGTH,
        use_motion_mid_block=False,
    )
    return shake(model, seed=41, scale=0.05).eval()


def animatediff_sdxl(folder: Path, zeros: bool = True) -> AnimateDiffSDXLPipeline:
    """The parts of `tiny_image.sdxl` with motion modules, on linear betas."""
    image, motion = sdxl(folder, zeros), sdxl_motion()
    unet = UNetMotionModel.from_unet2d(image.unet, motion)
    # diffusers leaves these at random
    unet.add_embedding.load_state_dict(image.unet.add_embedding.state_dict())
    components = image.components | {"unet": unet, "motion_adapter": motion, "scheduler": linear_scheduler()}
    pipeline = AnimateDiffSDXLPipeline(**components, force_zeros_for_empty_prompt=zeros)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def wan(folder: Path, unipc: bool = True) -> WanPipeline:
    """A Wan 2.1 pipeline on UniPC with the flow shift of 480p, or on FlowMatch; `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(31)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(pieces), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    torch.manual_seed(32)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.1, 0.2, 0.0],
        latents_std=[0.8, 1.2, 0.5, 1.0],
    )
    torch.manual_seed(33)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=T5_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=32,
    )
    if unipc:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipeline = WanPipeline(
        tokenizer=pieces,
        text_encoder=shake(text_encoder, seed=31).eval(),
        vae=shake(vae, seed=32, scale=0.02).eval(),
        scheduler=scheduler,
        transformer=shake(transformer, seed=33).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ltx(folder: Path, timestep_conditioning: bool = False) -> LTXPipeline:
    """An LTX-Video pipeline, 32 × 32 pixels and 8 frames per latent; `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(34)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning,
        scaling_factor=0.8,
    )
    shake(vae, seed=34, scale=0.02)
    generator = torch.Generator().manual_seed(34)
    vae.latents_mean.copy_(0.3 * torch.randn(8, generator=generator))
    vae.latents_std.copy_(0.5 + torch.rand(8, generator=generator))
    torch.manual_seed(35)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=T5_WIDTH,
    )
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=256,
            max_image_seq_len=1024, shift_terminal=0.1,
        ),
        vae=vae.eval(),
        text_encoder=t5(pieces),
        tokenizer=pieces,
        transformer=shake(transformer, seed=35).eval(),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def cogvideox(folder: Path, rotary: bool = True, packed_frames: int | None = None) -> CogVideoXPipeline:
    """A CogVideoX pipeline: 5b, 2b (not `rotary`) or 1.5 (two `packed_frames`); `folder` is not needed."""
    pieces = t5_tokenizer()
    torch.manual_seed(36)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_height=64,
        sample_width=96,
        scaling_factor=0.7 if rotary else 1.15258426,
    )
    torch.manual_seed(37)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=T5_WIDTH,
        num_layers=1,
        # trained on another size than the tests', so that positions are stretched or cut out
        sample_height=8,
        sample_width=16,
        sample_frames=9,
        patch_size_t=packed_frames,
        patch_bias=packed_frames is None,
        max_text_seq_length=T5_TOKENS,
        use_rotary_positional_embeddings=rotary,
    )
    pipeline = CogVideoXPipeline(
        tokenizer=pieces,
        text_encoder=t5(pieces),
        vae=shake(vae, seed=36, scale=0.02).eval(),
        transformer=shake(transformer, seed=37).eval(),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
            snr_shift_scale=1.0 if rotary else 3.0,
        ),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def instructed_tokenizer() -> T5Tokenizer:
    """Letters, and the words of HunyuanVideo's instruction in so many pieces that it takes the tokens that it should.

    It stands for LLaMA's, which needs files.
    """
    words = DEFAULT_PROMPT_TEMPLATE["template"].split("{}")[0].split()
    letters = [*"▁abcdefghijklmnopqrstuvwxyz,"]
    cut, missing = {}, DEFAULT_PROMPT_TEMPLATE["crop_start"] - len(words)
    # dict.fromkeys keeps the order; that of a set changes with every process
    for word in sorted(dict.fromkeys(words), key=lambda word: -len(word)):
        halve = words.count(word) <= missing
        missing -= words.count(word) * halve
        middle = len(word) // 2 if halve else 0
        cut |= dict.fromkeys([f"▁{word[:middle]}", word[middle:]] if halve else [f"▁{word}"])
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((piece, -1.0) for piece in dict.fromkeys([*letters, *cut])),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def clip_text(words: CLIPTokenizer) -> CLIPTextModel:
    """As long as the published ones: the pipeline asks for 77 tokens whatever the tokenizer says."""
    torch.manual_seed(41)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return shake(CLIPTextModel(config), seed=41).eval()


def hunyuan(folder: Path) -> HunyuanVideoPipeline:
    """A HunyuanVideo pipeline; `folder` holds CLIP's tokenizer."""
    words = tokenizer(folder)
    pieces = instructed_tokenizer()
    torch.manual_seed(42)
    language_model = LlamaModel(
        LlamaConfig(
            vocab_size=len(pieces),
            hidden_size=T5_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
        )
    )
    torch.manual_seed(43)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    torch.manual_seed(44)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 6, 6),
    )
    pipeline = HunyuanVideoPipeline(
        text_encoder=shake(language_model, seed=42).eval(),
        tokenizer=pieces,
        transformer=shake(transformer, seed=44).eval(),
        vae=shake(vae, seed=43, scale=0.02).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip_text(words),
        tokenizer_2=words,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
