"""Tiny random pipelines of the image families beyond Stable Diffusion 1.x, built offline as in `tests.tiny`."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.tiny import TEXT_WIDTH, TOKENS, shake, text_encoder, tokenizer, vae

T5_WIDTH = 40
T5_TOKENS = 20
"""What captions are padded and cut to for T5; longer than CLIP's limit, shorter than the longest test prompt."""


def t5_tokenizer() -> T5Tokenizer:
    """A unigram tokenizer of single letters, as T5's is of pieces."""
    letters = [*"▁abcdefghijklmnopqrstuvwxyz,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in letters)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def t5(tokenizer: T5Tokenizer) -> T5EncoderModel:
    torch.manual_seed(11)
    config = T5Config(vocab_size=len(tokenizer), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return shake(T5EncoderModel(config), seed=11).eval()


def clip_with_projection(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return shake(CLIPTextModelWithProjection(config), seed=seed).eval()


def shifted_vae() -> AutoencoderKL:
    """As SD3's and Flux's: latents have a mean, and no convolution around the posterior."""
    torch.manual_seed(12)
    model = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64,
        scaling_factor=0.7,
        shift_factor=0.3,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return shake(model, seed=12, scale=0.02).eval()


def sdxl_unet() -> UNet2DConditionModel:
    torch.manual_seed(13)
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 8,
    )
    return shake(model, seed=13, scale=0.05).eval()


def sdxl(folder: Path, zeros: bool = True) -> StableDiffusionXLPipeline:
    """A Stable Diffusion XL pipeline, 64 × 64 pixels; `zeros` for the empty prompt as the published base has it."""
    words = tokenizer(folder)
    pipeline = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(words),
        text_encoder_2=clip_with_projection(words, 14),
        tokenizer=words,
        tokenizer_2=tokenizer(folder),
        unet=sdxl_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading",
            steps_offset=1,
        ),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sd3(folder: Path, with_t5: bool = True, dynamic: bool = False) -> StableDiffusion3Pipeline:
    """A Stable Diffusion 3.5 pipeline (two attentions in the first block), its time grid shifted by 3 or `dynamic`."""
    words = tokenizer(folder)
    torch.manual_seed(15)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    pieces = t5_tokenizer()
    pipeline = StableDiffusion3Pipeline(
        transformer=shake(transformer, seed=15).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic),
        vae=shifted_vae(),
        text_encoder=clip_with_projection(words, 16),
        tokenizer=words,
        text_encoder_2=clip_with_projection(words, 17),
        tokenizer_2=tokenizer(folder),
        text_encoder_3=t5(pieces) if with_t5 else None,
        tokenizer_3=pieces if with_t5 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux(folder: Path, dev: bool = True) -> FluxPipeline:
    """A Flux pipeline: `dev` with embedded guidance and a shift by size, or schnell with neither."""
    words = tokenizer(folder)
    torch.manual_seed(18)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=dev,
        axes_dims_rope=(4, 4, 8),
    )
    pieces = t5_tokenizer()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev)
    pipeline = FluxPipeline(
        transformer=shake(transformer, seed=18).eval(),
        scheduler=scheduler,
        vae=shifted_vae(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        text_encoder_2=t5(pieces),
        tokenizer_2=pieces,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sana(folder: Path) -> SanaPipeline:
    """A Sana pipeline of 8 × 8 pixels per latent; its tokenizer is T5's kind, for Gemma's needs a file."""
    pieces = t5_tokenizer()
    torch.manual_seed(21)
    language_model = Gemma2Model(
        Gemma2Config(
            vocab_size=len(pieces),
            hidden_size=T5_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    torch.manual_seed(22)
    autoencoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        scaling_factor=0.4,
    )
    torch.manual_seed(23)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=T5_WIDTH,
        sample_size=8,
    )
    pipeline = SanaPipeline(
        tokenizer=pieces,
        text_encoder=shake(language_model, seed=21).eval(),
        vae=shake(autoencoder, seed=22, scale=0.02).eval(),
        transformer=shake(transformer, seed=23).eval(),
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, beta_schedule="linear"
        ),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pixart(folder: Path) -> PixArtSigmaPipeline:
    """A PixArt-Σ pipeline that answers a variance behind ε, on the published base's solver and betas."""
    pieces = t5_tokenizer()
    torch.manual_seed(24)
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=T5_WIDTH,
    )
    pipeline = PixArtSigmaPipeline(
        tokenizer=pieces,
        text_encoder=t5(pieces),
        vae=vae(),
        transformer=shake(transformer, seed=24).eval(),
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
