"""Crayon's autoencoder: its shape, an initialisation that learns at once, and whitened latents."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

LATENT_CHANNELS = 4
SCALING_FACTOR = 0.18215


def new_autoencoder(widths: tuple[int, ...] = (16, 32, 64, 128)) -> AutoencoderKL:
    """A fresh autoencoder, 8 times smaller latents for four widths, initialised near a linear patch code."""
    autoencoder: AutoencoderKL = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=SCALING_FACTOR,
    )
    start_near_linear(autoencoder)
    return autoencoder


@torch.no_grad()
def start_near_linear(autoencoder: AutoencoderKL) -> None:
    """Quietens residual branches and lets samplers pass their input.

    With diffusers' own initialisation the output stays at the mean image for hundreds of steps at any learning rate.
    """
    for name, module in autoencoder.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        weight = module.weight
        out_channels, in_channels = weight.shape[:2]
        if name.endswith("conv2"):
            weight.mul_(0.1)
        elif "downsamplers" in name:
            patch = torch.empty(out_channels, in_channels * 4)
            nn.init.orthogonal_(patch)
            weight.mul_(0.05)
            weight[:, :, :2, :2] += patch.view(out_channels, in_channels, 2, 2)
            # The average of the patch, so that its colour survives.
            weight[:, :, :2, :2] += torch.eye(out_channels, in_channels)[:, :, None, None] * 0.25
        elif "upsamplers" in name:
            weight.mul_(0.5)
            weight[:, :, 1, 1] += torch.eye(out_channels, in_channels)
        elif name.endswith("conv_shortcut") or "quant_conv" in name:
            nn.init.orthogonal_(weight)
        elif name.endswith("conv_in"):
            mix = torch.empty(out_channels, in_channels)
            nn.init.orthogonal_(mix)
            weight[:, :, 1, 1] += mix
            continue
        else:
            continue
        if module.bias is not None:
            module.bias.zero_()


def latent_means(autoencoder: AutoencoderKL, images: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """Unscaled latent means (count, 4, height/8, width/8) of images (count, 3, height, width) in [-1, 1]."""
    with torch.no_grad():
        return torch.cat([autoencoder.encode(part).latent_dist.mean for part in torch.split(images, batch)])


@torch.no_grad()
def whiten(autoencoder: AutoencoderKL, images: torch.Tensor) -> None:
    """Folds into the quant convolutions a change of units that gives every latent channel mean 0 and deviation 1.

    The deviation is 1 after multiplication with the customary scaling factor; decoded images stay as they were.
    """
    latents = latent_means(autoencoder, images)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    gain = 1 / (SCALING_FACTOR * deviation)
    into, out_of = autoencoder.quant_conv, autoencoder.post_quant_conv
    if into is None or into.bias is None or out_of is None or out_of.bias is None:
        raise ValueError("whitening needs quant convolutions with biases")
    into.weight[:LATENT_CHANNELS] *= gain.view(-1, 1, 1, 1)
    into.bias[:LATENT_CHANNELS] = (into.bias[:LATENT_CHANNELS] - mean) * gain
    out_of.bias += out_of.weight[:, :, 0, 0] @ mean
    out_of.weight /= gain.view(1, -1, 1, 1)
    # The rest of quant_conv's output is the log variance: encode almost without noise.
    into.weight[LATENT_CHANNELS:] = 0
    into.bias[LATENT_CHANNELS:] = -8.0
