"""Command line: train crayon and its judge, evaluate a checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, help="Train and evaluate crayon, the bundled demonstration checkpoint.")
WORKSHOP = Path(".darkroom/crayon")


class Trainable(StrEnum):
    """What to train."""

    VAE = "vae"
    UNET = "unet"
    JUDGE = "judge"
    CONTROLNET = "controlnet"
    ALL = "all"


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@app.command()
def train(
    stage: Annotated[Trainable, typer.Argument(help="vae, unet, controlnet, in this order; judge any time; all.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    steps: Annotated[int | None, typer.Option(help="Total steps of the vae, unet or controlnet stage.")] = None,
    decay_steps: Annotated[
        int | None, typer.Option(help="The rate falls over the last so many steps; not vae.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a step; not vae.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that share a batch; best with --threads 1.")] = 1,
    workshop: Annotated[Path, typer.Option(help="Where drawings, latents and state files are kept.")] = WORKSHOP,
    checkpoint: Annotated[Path | None, typer.Option(help="Where the checkpoint goes.")] = None,
    controlnet: Annotated[Path | None, typer.Option(help="Where the ControlNet goes.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Trains a stage, from where its last run stopped."""
    # Imported here because --help should not wait for torch.
    from crayon.judge import train_judge
    from crayon.training import stages
    from crayon.training.checkpoint import CHECKPOINT, CONTROLNET
    from crayon.training.devices import limit_threads, resolve_device
    from crayon.training.train_controlnet import ControlTraining
    from crayon.training.train_unet import UnetTraining
    from crayon.training.train_vae import VaeTraining

    if stage is Trainable.ALL and (steps is not None or decay_steps is not None):
        raise typer.BadParameter("steps are given for one stage at a time")
    limit_threads(threads)
    place, target = stages.Workshop(workshop), resolve_device(device)
    if stage in (Trainable.VAE, Trainable.ALL):
        ratio = stages.train_vae(place, VaeTraining(**_given(steps=steps)), target)
        typer.echo(f"autoencoder: {ratio:.2f} dB on scenes it never saw")
    if stage in (Trainable.UNET, Trainable.ALL):
        settings = UnetTraining(**_given(steps=steps, decay_steps=decay_steps, batch=batch, workers=workers))
        stages.train_unet(place, settings, target, checkpoint or CHECKPOINT)
    if stage in (Trainable.CONTROLNET, Trainable.ALL):
        control = ControlTraining(**_given(steps=steps, decay_steps=decay_steps, batch=batch, workers=workers))
        stages.train_controlnet(place, control, target, checkpoint or CHECKPOINT, controlnet or CONTROLNET)
    if stage in (Trainable.JUDGE, Trainable.ALL):
        accuracy = train_judge.train_judge()
        typer.echo("judge: " + "  ".join(f"{name} {share:.4f}" for name, share in accuracy.items()))


Checkpoint = Annotated[Path | None, typer.Option(help="A diffusers checkpoint; the bundled one by default.")]
Steps = Annotated[int, typer.Option(help="DDIM steps.")]
Guidance = Annotated[float, typer.Option(help="Guidance scale.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Limit = Annotated[int | None, typer.Option(help="At most so many prompts of each suite.")]
Report = Annotated[Path | None, typer.Option(help="Where the JSON report goes; none by default.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]


@app.command()
def evaluate(
    checkpoint: Checkpoint = None,
    num_inference_steps: Steps = 25,
    guidance_scale: Guidance = 4.0,
    device: Device = "auto",
    limit: Limit = None,
    report: Report = None,
    sheet: Annotated[Path | None, typer.Option(help="Where the first pictures of each suite go, as one PNG.")] = None,
    failures: Annotated[Path | None, typer.Option(help="Where the pictures that failed go.")] = WORKSHOP / "failed.png",
    threads: Threads = 2,
) -> None:
    """Draws prompts that training never saw and has the judge read the pictures."""
    from crayon.judge import evaluate as evaluation
    from crayon.training.checkpoint import CHECKPOINT

    settings = _settings(device, threads, num_inference_steps, guidance_scale)
    generate = evaluation.diffusers_generate(
        checkpoint or CHECKPOINT, num_inference_steps, guidance_scale, device=settings["device"]
    )
    results = evaluation.evaluate(generate, settings, report, sheet, failures, limit)
    typer.echo(evaluation.table(results))


@app.command()
def evaluate_control(
    checkpoint: Checkpoint = None,
    controlnet: Annotated[Path | None, typer.Option(help="A ControlNet for it; the bundled one by default.")] = None,
    num_inference_steps: Steps = 25,
    guidance_scale: Guidance = 4.0,
    control_scale: Annotated[float, typer.Option(help="What the ControlNet's residuals are multiplied by.")] = 1.0,
    device: Device = "auto",
    limit: Limit = None,
    report: Report = None,
    sheet: Annotated[Path | None, typer.Option(help="Where sources, edges and pictures go, as one PNG.")] = None,
    threads: Threads = 2,
) -> None:
    """Draws prompts along edge maps that training never saw: are the edges kept, and the colours the prompt's?"""
    from crayon.judge import evaluate_control as control
    from crayon.judge.evaluate import diffusers_generate
    from crayon.training.checkpoint import CHECKPOINT, CONTROLNET

    settings = _settings(device, threads, num_inference_steps, guidance_scale) | {"control_scale": control_scale}
    free, generate = (
        diffusers_generate(
            *(checkpoint or CHECKPOINT, num_inference_steps, guidance_scale),
            device=settings["device"],
            controlnet=network,
            scale=control_scale,
        )
        for network in (None, controlnet or CONTROLNET)
    )
    results = control.evaluate_control(generate, free, settings, report, sheet, limit)
    typer.echo(control.control_table(results))


def _settings(device: str, threads: int, steps: int, guidance: float) -> dict[str, Any]:
    """What a report says of how its pictures were drawn; torch keeps to so many threads from here on."""
    from crayon.training.devices import limit_threads, resolve_device

    limit_threads(threads)
    return {
        "sampler": "DDIM",
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "device": str(resolve_device(device)),
        "precision": "float32",
    }


if __name__ == "__main__":
    app()
