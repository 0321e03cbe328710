"""The train stage: base evaluation, training with checkpoints, tuned evaluation, gates, plots."""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from tunesmith_api import TrainReport
from tunesmith_api.finetunejob import EvaluationStatus, Scores
from tunesmith_trainer import log
from tunesmith_trainer.checkpoints import newest_whole, step_of
from tunesmith_trainer.config import lora_of
from tunesmith_trainer.encode import EncodedRow
from tunesmith_trainer.encoded import read_encoded
from tunesmith_trainer.environment import worker_threads
from tunesmith_trainer.errors import PreemptedError
from tunesmith_trainer.evaluate import Evaluator
from tunesmith_trainer.gates import check_gates, require_gates
from tunesmith_trainer.loop import LoopPlan, TuningTrainer, count_steps
from tunesmith_trainer.model import add_lora, count_parameters, load_adapter, load_base
from tunesmith_trainer.outcome import Outcome
from tunesmith_trainer.plots import Point, plot_evaluation, plot_loss
from tunesmith_trainer.precision import choose_precision, probe_device
from tunesmith_trainer.prepared import Prepared, read_prepared
from tunesmith_trainer.progress import ProgressBoard, read_log
from tunesmith_trainer.progress_server import serve_progress
from tunesmith_trainer.stages import Run
from tunesmith_trainer.tokenizer import load_tokenizer
from tunesmith_trainer.torch_model import TorchModel
from tunesmith_trainer.workspace import Workspace, key_of, read_json, write_json

#: Written into the adapter's folder when the stage is through.
_COMPLETE = "tunesmith.json"


@dataclass(frozen=True)
class _Job:
    """What the parts of the stage work on."""

    run: Run
    prepared: Prepared
    plan: LoopPlan
    rows: Sequence[EncodedRow]
    evaluator: Evaluator


@dataclass(frozen=True)
class _Trained:
    """What the loop left.

    Attributes:
        model: the tuned model.
        parameters: trained weights, and weights in all.
        seconds: wall time of the loop in this process.
        tokens: input tokens without padding in this process.
        resumed_from: step that this process started from.
        evaluation: losses on the evaluation rows by step.
    """

    model: Any
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
        report = _run(run, prepared, outcome)
    outcome.evaluation = EvaluationStatus(base=report.base, tuned=report.tuned, gates=report.gates)
    require_gates(report.gates)


def run_key(run: Run, prepared: Prepared) -> str:
    """Changes when the training would come out differently; names the folder of its checkpoints."""
    training = run.config.spec.training.wire() | {"checkpointEverySteps": 0}
    return key_of(prepared.key, lora_of(run.config.spec).wire(), training)


def _completed(run: Run, prepared: Prepared) -> TrainReport | None:
    found = read_json(run.workspace.adapter / _COMPLETE)
    report = read_json(run.workspace.train_report)
    if report is None or found is None or found.get("key") != _report_key(run, prepared):
        return None
    log.info("already trained")
    return TrainReport.model_validate(report)


def _report_key(run: Run, prepared: Prepared) -> str:
    return key_of(run_key(run, prepared), run.config.spec.evaluation.wire())


def make_evaluator(run: Run, prepared: Prepared) -> Evaluator:
    """The evaluation of a job on its prepared rows."""
    tokenizer = load_tokenizer(prepared.model_path)
    config = read_json(prepared.model_path / "config.json") or {}
    return Evaluator(
        rows=read_encoded(run.workspace.evaluation_rows),
        tokenizer=tokenizer,
        generation=run.config.spec.evaluation.generation,
        stop_ids=frozenset({int(tokenizer.convert_tokens_to_ids(prepared.stop_token)), int(tokenizer.eos_token_id)}),
        context=int(config.get("max_position_embeddings", prepared.sequence_length)),
    )


def _run(run: Run, prepared: Prepared, outcome: Outcome) -> TrainReport:
    job = _lay_out(run, prepared)
    checkpoint = newest_whole(job.plan.folder)
    board = ProgressBoard(run.workspace.train_log, job.plan.total_steps, step_of(checkpoint) if checkpoint else 0)
    with serve_progress(board):
        try:
            model = load_base(prepared.model_path, job.plan.device.name)
            base = _base_scores(job, model)
            return _report(job, base, _tune(job, model, board, checkpoint))
        finally:
            outcome.progress = board.latest


def _lay_out(run: Run, prepared: Prepared) -> _Job:
    spec = run.config.spec.training
    rows = read_encoded(run.workspace.training_rows)
    device = probe_device()
    width = int((read_json(prepared.model_path / "config.json") or {}).get("hidden_size", 0))
    precision = choose_precision(spec.precision, device, width)
    log.info("device", name=device.name, bf16=device.bf16, precision=precision, threads=torch.get_num_threads())
    folder = run.workspace.checkpoints / run_key(run, prepared)[:16]
    plan = LoopPlan(spec, count_steps(spec, len(rows)), precision, device, folder)
    return _Job(run, prepared, plan, rows, make_evaluator(run, prepared))


def _base_scores(job: _Job, model: Any) -> Scores:
    path = job.run.workspace.base_scores
    key = key_of(job.prepared.key, job.run.config.spec.evaluation.generation.wire())
    known = read_json(path)
    if known is not None and known.get("key") == key:
        return Scores.model_validate(known["scores"])
    scores = job.evaluator.score(TorchModel(model))
    log.info("base model measured", **scores.model_dump())
    write_json(path, {"key": key, "scores": scores.wire()})
    return scores


def _tune(job: _Job, base: Any, board: ProgressBoard, checkpoint: Path | None) -> _Trained:
    set_seed(job.plan.spec.seed)
    model = add_lora(base, lora_of(job.run.config.spec), job.prepared.lora_targets)
    parameters = count_parameters(model)
    trainer = TuningTrainer(model, job.plan, job.rows, job.evaluator)
    trainer.watch(board, job.run.preemption)
    began = time.monotonic()
    if checkpoint is not None and step_of(checkpoint) >= job.plan.total_steps:
        model = load_adapter(model.unload(), checkpoint)
    else:
        _loop(job, trainer, checkpoint)
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    return _Trained(
        model=model.eval(),
        parameters=parameters,
        seconds=time.monotonic() - began,
        tokens=trainer.tokens,
        resumed_from=step_of(checkpoint) if checkpoint else None,
        evaluation=_evaluation_points(trainer),
    )


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
    with job.run.preemption.deferred():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step = trainer.state.global_step
    if job.run.preemption.requested:
        raise PreemptedError(f"SIGTERM was received; a checkpoint was saved at step {step} of {job.plan.total_steps}")


def _final_loss(workspace: Workspace) -> float:
    return [line.loss for line in read_log(workspace.train_log) if line.loss is not None][-1]


def _report(job: _Job, base: Scores, trained: _Trained) -> TrainReport:
    workspace, spec = job.run.workspace, job.run.config.spec
    trained.model.save_pretrained(workspace.adapter)
    tuned = job.evaluator.score(TorchModel(trained.model))
    log.info("tuned model measured", **tuned.model_dump())
    report = TrainReport(
        base=base,
        tuned=tuned,
        gates=check_gates(spec.evaluation.gates, tuned, base, "tuned"),
        steps=job.plan.total_steps,
        final_loss=_final_loss(workspace),
        trained_parameters=trained.parameters[0],
        total_parameters=trained.parameters[1],
        duration_seconds=round(trained.seconds, 3),
        tokens_per_second=round(trained.tokens / max(trained.seconds, 1e-9), 1),
        peak_memory_bytes=_peak_memory(job.plan),
        precision=job.plan.precision,
        resumed_from_step=trained.resumed_from,
    )
    write_json(workspace.train_report, report)
    plot_loss(workspace.plots / "loss.png", job.run.config.name, read_log(workspace.train_log), trained.evaluation)
    plot_evaluation(workspace.plots / "evaluation.png", job.run.config.name, {"base": base, "tuned": tuned})
    write_json(workspace.adapter / _COMPLETE, {"key": _report_key(job.run, job.prepared)})
    return report


def _peak_memory(plan: LoopPlan) -> int:
    if plan.device.name == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
