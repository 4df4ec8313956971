"""The command line of the build stage."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from darkroom.bundles import catalog, signing
from darkroom.bundles.signing import KeyRefused
from darkroom.contracts import MODEL_NAME
from darkroom.errors import DarkroomError
from darkroom.gpu import GRAPHS
from darkroom.storage import ObjectStore, open_store
from model_build import BuildRefused
from model_build.build import Build
from model_build.cache.trials import Effort
from model_build.compile.targets import GPU_TARGETS, TARGETS
from model_build.doctor.examination import Baseline, Processor
from model_build.plan import Plan
from model_build.progress import BuildProgress
from model_build.proof.report import tables

_WIDTH = 100  # of a table that goes to a file
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """From a checkpoint to a bundle of engines in an object store."""


@app.command()
def build(
    checkpoint: Annotated[str, typer.Argument(help="A diffusers folder or hub id: Stable Diffusion 1, 2, XL or LCM.")],
    name: Annotated[str, typer.Option(help="Name of the model in the object store.")],
    store: Annotated[str, typer.Option(help="Object store: file:///path or s3://bucket/prefix.")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help=f"In order of preference; by default {', '.join(TARGETS)}. On a machine with the GPU: "
            f"{', '.join(name for name, spec in GPU_TARGETS.items() if spec.needs_gpu)}."
        ),
    ] = None,
    work: Annotated[Path, typer.Option(help="Where finished stages are kept.")] = Path(".darkroom/build"),
    steps: Annotated[int | None, typer.Option(min=1, max=100, help="Default number of steps; else 25, LCM 4.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, max=50, help="Default guidance scale; else 7.5, LCM 8.5.")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Default sampler; else ddim, LCM lcm.")] = None,
    width: Annotated[int | None, typer.Option(help="Default width; else the UNet's own size.")] = None,
    height: Annotated[int | None, typer.Option(help="Default height; else the UNet's own size.")] = None,
    min_size: Annotated[int | None, typer.Option(help="Smallest side; else 64 or half the native side.")] = None,
    max_size: Annotated[int | None, typer.Option(help="Largest side; else twice the native side.")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Largest area; else twice the native area.")] = None,
    prompt: Annotated[str, typer.Option(help="What verify and report draw.")] = Plan.prompt,
    verify_steps: Annotated[int | None, typer.Option(min=1, max=100, help="Steps of verify; else --steps.")] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Turns in the report's timings; 0: none.")] = 3,
    prompts: Annotated[
        Path | None, typer.Option(help="What int8 is calibrated on, a prompt a line; else prompts of all kinds.")
    ] = None,
    token_merging: Annotated[
        float, typer.Option(min=0, max=0.6, help="Share of tokens merged around the finest self-attention; 0: none.")
    ] = 0.0,
    controlnet: Annotated[
        list[str] | None, typer.Option(help="TYPE=FOLDER, e.g. canny=...: a ControlNetModel of diffusers; repeatable.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(help="FILE.safetensors or FILE.safetensors=SCALE, added to the weights; repeatable."),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of an AutoencoderKL or AutoencoderTiny, instead of the checkpoint's own."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="What calibrate-cache wrote, so that similar prompts may share work.")
    ] = None,
    rows: Annotated[int, typer.Option(min=2, max=256, help="Most UNet rows a TensorRT engine takes.")] = 8,
    graphs: Annotated[
        int, typer.Option(min=0, max=16, help="RUNTIME_GPU_GRAPHS of those who serve it, for the memory it will take.")
    ] = GRAPHS,
    stripped: Annotated[bool, typer.Option(help="TensorRT engines without weights: smaller, slower to load.")] = False,
    sign_with: Annotated[Path | None, typer.Option(help="Private key, see keygen, that signs the manifest.")] = None,
) -> None:
    """Export, optimise, compile, verify, report and publish; what is unchanged since the last time is skipped."""
    console = Console(stderr=True)
    plan = Plan(
        checkpoint=checkpoint,
        name=name,
        targets=target or list(TARGETS),
        work=work,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        width=width,
        height=height,
        min_size=min_size,
        max_size=max_size,
        max_pixels=max_pixels,
        prompt=prompt,
        verify_steps=verify_steps,
        repeats=repeats,
        token_merging=token_merging,
        cache=cache,
        loras=lora or [],
        vae=vae,
        rows=rows,
        graphs=graphs,
        stripped=stripped,
        key=sign_with,
    )
    with _refusing(console):
        if not re.fullmatch(MODEL_NAME, name):
            raise BuildRefused(f"{name} is no model name: use letters, digits, dots, dashes and underscores.")
        if prompts is not None:
            plan = replace(plan, calibration=_lines(prompts))
        plan = replace(plan, controlnets=_controlnets(controlnet or []))
        try:
            manifest, report = Build(plan, _store(store), BuildProgress(console)).run()
        except KeyboardInterrupt:
            console.print("Stopped; finished stages are kept, and the same command goes on from there.")
            raise typer.Exit(_INTERRUPTED) from None
    for table in tables(report):
        Console(width=None if console.is_terminal else _WIDTH).print(table)
    typer.echo(f"{manifest.model} {manifest.version}")


@app.command()
def calibrate_cache(
    name: Annotated[str, typer.Argument(help="Name of the model in the object store; its served bundle is measured.")],
    store: Annotated[str, typer.Option(help="Object store: file:///path or s3://bucket/prefix.")],
    out: Annotated[Path, typer.Option(help="Folder for what build takes with --cache.")],
    target: Annotated[str | None, typer.Option(help="The engines to measure with; else the first target's.")] = None,
    criterion: Annotated[
        str, typer.Option(help="What says that an image is wrong: moved, or module:attribute, called for a criterion.")
    ] = "moved",
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts as users write them, a line each; needed for the criterion moved.")
    ] = None,
    glances: Annotated[int, typer.Option(min=64, help="Prompts whose mean image is learnt, three UNet calls each.")] = (
        Effort.prompts
    ),
    trials: Annotated[
        int, typer.Option(min=64, help="Pairs of prompts that are drawn, about 3.5 images each.")
    ] = Effort.pairs,
) -> None:
    """Measure how alike two prompts must be for one to start from the other's image; then build again with --cache."""
    from model_build.cache import calibration as cache_calibration
    from model_build.cache.criterion import criterion_named

    console = Console(stderr=True)
    effort = Effort(glances, trials)
    with _refusing(console):
        judge = criterion_named(criterion, _lines(prompts) if prompts is not None else ())
        with tempfile.TemporaryDirectory() as folder:
            bundle = cache_calibration.fetch(_store(store), name, target, Path(folder))
            with BuildProgress(console).running(
                "calibrate-cache", cache_calibration.work(effort, bundle.manifest)
            ) as advance:
                tensors, record = cache_calibration.calibrate(bundle, judge, effort, advance)
        cache_calibration.save(tensors, record, out)
    Console(width=None if console.is_terminal else _WIDTH, emoji=False).print(cache_calibration.table(record))


@app.command()
def doctor(
    checkpoint: Annotated[
        list[str] | None, typer.Argument(help="Diffusers folders or hub ids to build beside crayon.")
    ] = None,
    device: Annotated[
        Processor, typer.Option(help="cpu: a rehearsal without a GPU, of the same steps.")
    ] = Processor.GPU,
    baseline: Annotated[
        list[Baseline] | None, typer.Option(help="What of diffusers to time against; all by default.")
    ] = None,
    crayon: Annotated[bool, typer.Option(help="Build crayon as well.")] = True,
    steps: Annotated[int, typer.Option(min=1, max=100, help="Steps of every image.")] = 25,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of every timing.")] = 3,
    report: Annotated[Path | None, typer.Option(help="File for the same as JSON.")] = None,
) -> None:
    """Say what this machine lacks for GPU engines; where nothing is missing, build, check and time some."""
    from model_build.doctor.doctor import CRAYON, Doctor

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    subjects = [*([str(CRAYON)] if crayon else []), *(checkpoint or [])]
    visit = Doctor(console, device, list(dict.fromkeys(baseline or list(Baseline))), steps=steps, repeats=repeats)
    with _refusing(Console(stderr=True)):
        outcome = visit.run(subjects)
        if report is not None:
            report.write_text(json.dumps(outcome, indent=1) + "\n")
    if outcome["failures"]:
        raise typer.Exit(1)


@app.command()
def keygen(key: Annotated[Path, typer.Argument(help="Where the private key goes; it must not exist yet.")]) -> None:
    """Draw a key pair: the private key is for build --sign-with, the public one, printed, for RUNTIME_TRUSTED_KEYS."""
    with _refusing(Console(stderr=True)):
        typer.echo(signing.generate(key))


@app.command()
def sign(
    name: Annotated[str, typer.Argument(help="Name of the model in the object store.")],
    store: Annotated[str, typer.Option(help="Object store: file:///path or s3://bucket/prefix.")],
    key: Annotated[Path, typer.Option(help="Private key, see keygen.")],
    version: Annotated[str | None, typer.Option(help="A published version; else the one that is served.")] = None,
) -> None:
    """Sign a version that is published already, or sign it anew with another key."""
    with _refusing(Console(stderr=True)):
        opened = _store(store)
        signed = signing.sign(catalog.load_manifest(opened, name, version), key)
        catalog.put_manifest(opened, signed)
    typer.echo(f"{signed.model} {signed.version}")


@contextmanager
def _refusing(console: Console) -> Iterator[None]:
    """Where something is refused, say why in one sentence, and exit."""
    try:
        yield
    except (BuildRefused, DarkroomError, KeyRefused, OSError) as refused:
        console.print(_sentence(refused), style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _store(url: str) -> ObjectStore:
    try:
        return open_store(url)
    except ValueError as refused:
        raise BuildRefused(f"--store: {refused}.") from None


def _controlnets(given: list[str]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for option in given:
        kind, equals, source = option.partition("=")
        if not (kind and equals and source):
            raise BuildRefused(f"--controlnet {option}: write TYPE=FOLDER, as in canny=path/to/controlnet.")
        if kind in sources:
            raise BuildRefused(f"--controlnet: {kind} is given twice.")
        sources[kind] = source
    return sources


def _lines(prompts: Path) -> tuple[str, ...]:
    try:
        lines = tuple(filter(None, map(str.strip, prompts.read_text(encoding="utf-8").splitlines())))
    except (OSError, UnicodeDecodeError):
        raise BuildRefused(f"There is no file {prompts} with prompts.") from None
    if not lines:
        raise BuildRefused(f"{prompts} has no prompt in it.")
    return lines


def _sentence(refused: Exception) -> str:
    if isinstance(refused, DarkroomError):
        return refused.detail
    if isinstance(refused, OSError) and refused.strerror:
        return f"{refused.filename or 'The build'}: {refused.strerror}."
    return str(refused)


if __name__ == "__main__":
    app()
