"""The train stage: base evaluation, training with checkpoints, tuned evaluation, gates, plots."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from transformers import set_seed

from tunesmith_api import TrainReport
from tunesmith_api.enums import Precision, Strategy
from tunesmith_api.finetunejob import EvaluationStatus, Scores
from tunesmith_api.reports import StoppingReport
from tunesmith_api.techniques import quantization_of
from tunesmith_trainer import log
from tunesmith_trainer.adapters import Adaptation, adapt
from tunesmith_trainer.callbacks import TrackSteps
from tunesmith_trainer.checkpoints import folder_of, newest_whole, step_of
from tunesmith_trainer.deepspeed_config import deepspeed_config
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.environment import peak_resident_bytes, return_memory, worker_threads
from tunesmith_trainer.errors import PreemptedError
from tunesmith_trainer.gang import Gang, joined
from tunesmith_trainer.gates import check_gates, require_gates
from tunesmith_trainer.halved import halved
from tunesmith_trainer.loop import LoopPlan, TuningTrainer, count_steps
from tunesmith_trainer.model_files import width_of
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.plots import Point, draw_all, save
from tunesmith_trainer.precision import choose_precision, probe_device
from tunesmith_trainer.prepared import Prepared, read_prepared
from tunesmith_trainer.progress import ProgressBoard, read_log
from tunesmith_trainer.progress_server import serve_progress
from tunesmith_trainer.quantized import quantization_config
from tunesmith_trainer.recipe import Measured, Recipe, TokenRow
from tunesmith_trainer.recipes import find_entry, load_recipe
from tunesmith_trainer.stages import Run
from tunesmith_trainer.stopping import Course, StopEarly, read_course
from tunesmith_trainer.tracking import Tracking, tracked
from tunesmith_trainer.tuned import count_parameters, save_tuned
from tunesmith_trainer.workspace import Workspace, key_of, read_json, write_json
from tunesmith_trainer.zero import Weights, start_deepspeed

#: Written into the adapter's folder when the stage is through.
_COMPLETE = "tunesmith.json"
#: What is measured as JSON, which is how the processes of a training tell it each other.
_MEASURED = TypeAdapter(Measured)


@dataclass(frozen=True)
class _Job:
    """What the parts of the stage work on."""

    run: Run
    prepared: Prepared
    plan: LoopPlan
    rows: Sequence[TokenRow]
    recipe: Recipe


@dataclass(frozen=True)
class _Trained:
    """What the loop left.

    Attributes:
        model: the tuned model.
        idle: whether it was only restored, so that no engine of a training is around it.
        steps: optimizer steps that were made.
        course: what the evaluations showed, with early stopping.
        parameters: trained weights, and weights in all.
        seconds: wall time of the loop in this process.
        tokens: input tokens without padding in this process.
        resumed_from: step that this process started from.
        evaluation: losses on the evaluation rows by step.
    """

    model: Any
    idle: bool
    steps: int
    course: Course | None
    parameters: tuple[int, int]
    seconds: float
    tokens: int
    resumed_from: int | None
    evaluation: list[Point]


def train(run: Run, outcome: Outcome) -> None:
    """Run the stage; resumes from the last whole checkpoint, and only repeats the verdict of a completed run.

    Raises:
        GateFailedError: the tuned model misses a gate; report, plots and adapter are kept.
        DivergedError: a loss is not finite.
        PreemptedError: SIGTERM; a checkpoint was saved when the loop had begun.
    """
    torch.set_num_threads(worker_threads())
    prepared = read_prepared(run.workspace)
    report = _completed(run, prepared)
    if report is None:
        with joined(run.preemption) as gang:
            report = _run(run, prepared, outcome, gang)
    _judge(report, outcome)


def _judge(report: TrainReport, outcome: Outcome) -> None:
    outcome.evaluation = EvaluationStatus(base=report.base, tuned=report.tuned, gates=report.gates)
    require_gates(report.gates)


def run_key(run: Run, prepared: Prepared) -> str:
    """Changes when the training would come out differently; names the folder of its checkpoints."""
    spec = run.config.spec.training
    training = spec.wire() if spec.early_stopping else spec.wire() | {"checkpointEverySteps": 0}
    distribution = run.config.spec.distribution
    parts = [distribution.wire()] if distribution.strategy in {Strategy.DDP, Strategy.DEEPSPEED} else []
    return key_of(prepared.key, run.config.spec.technique.wire(), training, *parts)


def _completed(run: Run, prepared: Prepared) -> TrainReport | None:
    found = read_json(run.workspace.adapter / _COMPLETE)
    report = read_json(run.workspace.train_report)
    if report is None or found is None or found.get("key") != _report_key(run, prepared):
        return None
    log.info("already trained")
    return TrainReport.model_validate(report)


def _report_key(run: Run, prepared: Prepared) -> str:
    return key_of(run_key(run, prepared), run.config.spec.evaluation.wire())


def _run(run: Run, prepared: Prepared, outcome: Outcome, gang: Gang) -> TrainReport:
    job = _lay_out(run, prepared, gang)
    checkpoint = _checkpoint(job.plan)
    log_file = run.workspace.train_log if gang.leads else Path(os.devnull)
    board = ProgressBoard(log_file, job.plan.total_steps, step_of(checkpoint) if checkpoint else 0)
    files = [run.workspace.train_report, run.workspace.plots]
    with serve_progress(board), tracked(run.config, files, board.latest.step) as tracking:
        try:
            with job.plan.weights.loading():
                model = _load_base(job)
            base = _base_scores(job, model)
            tracking.log_scores("base", base, 0)
            report = _report(job, base, _tune(job, model, board, checkpoint, tracking))
            tracking.log_scores("tuned", report.tuned, report.steps)
            _judge(report, outcome)
            return report
        finally:
            outcome.progress = board.latest


def _lay_out(run: Run, prepared: Prepared, gang: Gang) -> _Job:
    spec, distribution = run.config.spec.training, run.config.spec.distribution
    rows = read_encoded(run.workspace.training_rows, find_entry(run.config.spec.task, prepared.model_path).row)
    device = probe_device()
    width = width_of(read_json(prepared.model_path / "config.json") or {})
    precision = Precision(gang.lead_only(lambda: choose_precision(spec.precision, device, width)))
    log.info("device", name=device.name, bf16=device.bf16, precision=precision, threads=torch.get_num_threads())
    weights = Weights(gang, deepspeed_config(distribution, spec, precision, gang.world))
    if weights.config is not None:
        start_deepspeed()
    folder = run.workspace.checkpoints / run_key(run, prepared)[:16]
    steps, technique = count_steps(spec, len(rows), gang.world), run.config.spec.technique
    plan = LoopPlan(spec, steps, precision, device, folder, technique, weights)
    return _Job(run, prepared, plan, rows, load_recipe(run, prepared))


def _checkpoint(plan: LoopPlan) -> Path | None:
    """The checkpoint that every process resumes from."""
    found = plan.gang.lead_only(lambda: str(newest_whole(plan.folder) or ""))
    return Path(found) if found else None


def _load_base(job: _Job) -> Any:
    asked = quantization_of(job.plan.technique)
    quantization = quantization_config(asked, job.plan.precision) if asked else None
    return job.recipe.load_base(job.plan.device.name, quantization)


def _base_scores(job: _Job, model: Any) -> Scores:
    path, gang = job.run.workspace.base_scores, job.plan.gang
    quantization = quantization_of(job.plan.technique)
    stored = quantization.wire() if quantization else None
    key = key_of(job.prepared.key, job.run.config.spec.evaluation.generation.wire(), stored)
    known = gang.lead_only(lambda: read_json(path))
    if known is not None and known.get("key") == key:
        return Scores.model_validate(known["scores"])
    with job.plan.weights.working(model):
        scores = _score(job, model).scores
    log.info("base model measured", **scores.model_dump())
    gang.lead_only(lambda: write_json(path, {"key": key, "scores": scores.wire()}))
    return scores


def _score(job: _Job, model: Any) -> Measured:
    def measured() -> Any:
        return_memory()
        found = job.recipe.score(job.recipe.view(model))
        return _MEASURED.dump_python(found, mode="json", by_alias=True, exclude_none=True)

    return _MEASURED.validate_python(job.plan.weights.measure(measured))


def _tune(job: _Job, base: Any, board: ProgressBoard, checkpoint: Path | None, tracking: Tracking) -> _Trained:
    set_seed(job.plan.spec.seed)
    asked, targets = job.plan.technique, job.prepared.lora_targets
    model = adapt(base, Adaptation(asked, targets, job.recipe.peft_task, job.plan.total_steps))
    parameters = count_parameters(model)
    trainer = TuningTrainer(model, job.plan, job.rows, job.recipe)
    if job.plan.gang.rank > 0:
        torch.manual_seed(job.plan.spec.seed + job.plan.gang.rank)  # dropout differs between the processes
    stopping = _stopping(job, board, checkpoint)
    trainer.watch(board, job.run.preemption, stopping)
    trainer.add_callback(TrackSteps(tracking, board))
    began = time.monotonic()
    idle = checkpoint is not None and _is_done(job.plan, checkpoint)
    if checkpoint is not None and idle:
        steps = step_of(checkpoint)
    else:
        _loop(job, trainer, checkpoint)
        steps = trainer.state.global_step
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    seconds = time.monotonic() - began
    course = None if stopping is None else stopping.course
    best = steps if course is None else course.best_step
    if idle or best != steps:
        job.plan.weights.restore(model, folder_of(job.plan.folder, best))
    return _Trained(
        model=model.eval(),
        idle=idle,
        steps=steps,
        course=course,
        parameters=parameters,
        seconds=seconds,
        tokens=trainer.tokens,
        resumed_from=step_of(checkpoint) if checkpoint else None,
        evaluation=_evaluation_points(trainer),
    )


def _stopping(job: _Job, board: ProgressBoard, checkpoint: Path | None) -> StopEarly | None:
    asked = job.plan.spec.early_stopping
    if asked is None:
        return None
    return StopEarly(asked, read_course(checkpoint) if checkpoint else Course(), job.plan.gang, board)


def _is_done(plan: LoopPlan, checkpoint: Path) -> bool:
    """Whether a checkpoint is the last one of its training."""
    asked = plan.spec.early_stopping
    over = asked is not None and read_course(checkpoint).is_over(asked)
    return over or step_of(checkpoint) >= plan.total_steps


def _evaluation_points(trainer: TuningTrainer) -> list[Point]:
    """One point per step: a resumed run measures the step that it starts from again."""
    history = trainer.state.log_history
    return sorted({line["step"]: line["eval_loss"] for line in history if "eval_loss" in line}.items())


def _loop(job: _Job, trainer: TuningTrainer, checkpoint: Path | None) -> None:
    """Train to the last step.

    Raises:
        PreemptedError: SIGTERM; a checkpoint was saved.
    """
    if checkpoint is not None:
        log.info("resuming", step=step_of(checkpoint))
    alone = job.plan.weights.config is None  # DeepSpeed keeps weights of its own
    precision = job.plan.precision if alone else Precision.FP32
    return_memory()
    with job.run.preemption.deferred(), halved(trainer.model, precision) as held:
        if held:
            log.info("frozen weights are held in half precision, which is exact", weights=held)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step = trainer.state.global_step
    if job.run.preemption.requested:
        raise PreemptedError(f"SIGTERM was received; a checkpoint was saved at step {step} of {job.plan.total_steps}")


def _final_loss(workspace: Workspace) -> float:
    return [line.loss for line in read_log(workspace.train_log) if line.loss is not None][-1]


def _report(job: _Job, base: Scores, trained: _Trained) -> TrainReport:
    weights = job.plan.weights
    state = weights.gathered(trained.model)
    weights.gang.lead_only(lambda: save_tuned(trained.model, job.run.workspace.adapter, state))
    with weights.working(trained.model) if trained.idle else nullcontext():
        tuned = _score(job, trained.model)
    log.info("tuned model measured", **tuned.scores.model_dump())
    written = weights.gang.lead_only(lambda: _write_report(job, base, tuned, trained).wire())
    return TrainReport.model_validate(written)


def _write_report(job: _Job, base: Scores, measured: Measured, trained: _Trained) -> TrainReport:
    tuned = measured.scores
    workspace, spec = job.run.workspace, job.run.config.spec
    report = TrainReport(
        base=base,
        tuned=tuned,
        gates=check_gates(spec.evaluation.gates, tuned, base, "tuned"),
        steps=trained.steps,
        early_stopping=_outcome_of(trained.course, job.plan),
        final_loss=_final_loss(workspace),
        trained_parameters=trained.parameters[0],
        total_parameters=trained.parameters[1],
        duration_seconds=round(trained.seconds, 3),
        tokens_per_second=round(trained.tokens / max(trained.seconds, 1e-9), 1),
        peak_memory_bytes=_peak_memory(job.plan),
        precision=job.plan.precision,
        resumed_from_step=trained.resumed_from,
        classes=measured.classes,
    )
    write_json(workspace.train_report, report)
    progress = read_log(workspace.train_log)
    for name, figure in draw_all(job.run.config.name, progress, trained.evaluation, base, measured).items():
        save(figure, workspace.plots / f"{name}.png")
    write_json(workspace.adapter / _COMPLETE, {"key": _report_key(job.run, job.prepared)})
    return report


def _outcome_of(course: Course | None, plan: LoopPlan) -> StoppingReport | None:
    if course is None:
        return None
    return StoppingReport(best_step=course.best_step, best_loss=course.best_loss, planned_steps=plan.total_steps)


def _peak_memory(plan: LoopPlan) -> int:
    if plan.device.name == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return peak_resident_bytes()
