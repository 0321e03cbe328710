"""`tunesmith run`: the stages of a job as processes of this machine, then a report, then, if asked, a server."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rich.console import Console

from tunesmith_api import (
    ExitCode,
    Failure,
    FailureCategory,
    FineTuneJob,
    JobConfig,
    Resolution,
    Stage,
    meaning_of,
    resolve,
)
from tunesmith_api.jobconfig import BUNDLED_MODELS_VARIABLE, PROGRESS_PORT_VARIABLE, TERMINATION_LOG_VARIABLE
from tunesmith_cli.display import stage_display
from tunesmith_cli.errors import CliError
from tunesmith_cli.folder import RunFolder, new_folder, resumed_folder
from tunesmith_cli.local_job import LocalJob, local_architecture, local_job, require_memory
from tunesmith_cli.machine import bundled_models, require_part, this_machine
from tunesmith_cli.manifest import read_job
from tunesmith_cli.process import Children, wait
from tunesmith_cli.render import dataset_line, export_line, gate_lines, plan_lines, score_table, train_line
from tunesmith_cli.report import Answer, Ending, write_report
from tunesmith_cli.serving import Server, ask, refuse_unserved, serving


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for.

    Attributes:
        file: the job's file; may be absent with `resume`.
        output: the run's folder; a new one below runs/ when absent.
        resume: folder of an interrupted run.
        secrets: folders of the secrets that the job names.
        ignore_memory: start although the plan exceeds the machine.
        serve: serve the exported model afterwards.
        once: stop the server after its first answer.
        port: the server's port.
    """

    file: Path | None = None
    output: Path | None = None
    resume: Path | None = None
    secrets: Mapping[str, Path] = field(default_factory=dict)
    ignore_memory: bool = False
    serve: bool = False
    once: bool = False
    port: int = 8080


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    job: LocalJob
    console: Console
    children: Children

    @property
    def config(self) -> JobConfig:
        return self.job.config

    @property
    def plan(self) -> list[str]:
        return plan_lines(self.job.resolution, self.job.notes)


def run(options: RunOptions, console: Console, now: datetime) -> int:
    """Run a job on this machine and return the exit code: 0, or the failed stage's.

    Raises:
        CliError: the job cannot be started, or its server does not answer.
    """
    require_part("tunesmith_trainer", "trainer")
    folder, job = _resumed(options) if options.resume else _new(options, now)
    current = _Run(folder, job, console, Children())
    if not options.ignore_memory:
        require_memory(job.resolution, this_machine())
    variables = _variables(job.config, job.resolution)
    _say(console, f"{job.config.name}: {folder.root}", *(f"  {line}" for line in current.plan))
    deadline = job.config.spec.active_deadline_seconds
    ends = time.monotonic() + deadline if deadline else None
    with current.children.listening():
        for stage in Stage:
            code = _run_stage(current, stage, variables, ends)
            if code != ExitCode.DONE:
                return _fail(current, stage, code, overdue=ends is not None and time.monotonic() > ends)
            if options.serve and stage is Stage.PREPARE:
                refuse_unserved(folder, job.config)  # a model that was fetched is known only now
        return _finish(current, options)


def _new(options: RunOptions, now: datetime) -> tuple[RunFolder, LocalJob]:
    job, origin = _read(options)
    folder = new_folder(job.metadata.name, now, options.output)
    machine = None if options.ignore_memory else this_machine()
    local = local_job(job, origin, folder, options.secrets, machine)
    if options.serve:
        refuse_unserved(folder, local.config)
    folder.config.write_text(local.config.model_dump_json(by_alias=True, exclude_none=True, indent=2), encoding="utf-8")
    return folder, local


def _read(options: RunOptions) -> tuple[FineTuneJob, Path]:
    if options.file is None:
        raise CliError("give the file of a FineTuneJob, or --resume FOLDER")
    return read_job(options.file), options.file.absolute().parent


def _resumed(options: RunOptions) -> tuple[RunFolder, LocalJob]:
    assert options.resume is not None
    folder, config = resumed_folder(options.resume)
    if options.serve:
        refuse_unserved(folder, config)
    if options.file is not None:
        job = read_job(options.file)
        if resolve(job.spec, architecture=local_architecture(job.spec)).spec != config.spec:
            raise CliError(f"{options.file} differs from the job of {options.resume}; start a new run without --resume")
    return folder, LocalJob(config, resolve(config.spec, architecture=local_architecture(config.spec)), ())


def _variables(config: JobConfig, resolution: Resolution) -> dict[str, str]:
    variables = {PROGRESS_PORT_VARIABLE: "0"}
    if resolution.model is not None and resolution.model.bundled:
        variables[BUNDLED_MODELS_VARIABLE] = str(bundled_models(config.spec.model.preset or ""))
    return variables


def _run_stage(current: _Run, stage: Stage, variables: Mapping[str, str], deadline: float | None) -> int:
    folder = current.folder
    last_words = folder.termination_file(stage)
    last_words.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tunesmith_trainer", stage.value, "--config", str(folder.config)]
    with stage_display(current.console, stage.value) as display:

        def look() -> None:
            progress = folder.progress() if stage is Stage.TRAIN else None
            if progress is not None:
                display.show(progress)

        code = current.children.run(
            command,
            folder.log(stage.value),
            {**variables, TERMINATION_LOG_VARIABLE: str(last_words)},
            look=look,
            deadline=deadline,
        )
        if code == ExitCode.DONE:
            display.done(_summary(folder, stage))
        else:
            display.failed()
    return code


def _summary(folder: RunFolder, stage: Stage) -> str:
    dataset, train, export = folder.dataset(), folder.train_report(), folder.export_report()
    if stage is Stage.PREPARE and dataset is not None:
        return "\n    ".join([dataset_line(dataset), *dataset.warnings])
    if stage is Stage.TRAIN and train is not None:
        return train_line(train)
    if stage is Stage.EXPORT and export is not None:
        return export_line(export)
    raise CliError(f"{stage} ended well but left no report in {folder.workspace}", ExitCode.OUTPUT_NOT_WRITABLE)


def _fail(current: _Run, stage: Stage, code: int, *, overdue: bool) -> int:
    failure = _failure(current, stage, code, overdue=overdue)
    resume = f"tunesmith run --resume {_shown(current.folder.root)}"
    lines = [f"{stage} failed (exit code {code}), {failure.category}: {failure.message}", failure.resolution]
    if code == ExitCode.PREEMPTED and not overdue:
        lines = [f"{stage} was stopped (exit code {code})", f"Continue where it stopped: {resume}"]
    elif meaning_of(code).retryable:
        lines.append(f"Try again: {resume}")
    _show_scores(current)
    write_report(current.folder, current.config, current.plan, Ending(" ".join(lines)))
    _say(current.console, *lines, f"log: {_shown(current.folder.log(stage.value))}", _report_line(current))
    return code


def _failure(current: _Run, stage: Stage, code: int, *, overdue: bool) -> Failure:
    if overdue:
        return Failure(
            category=FailureCategory.DEADLINE_EXCEEDED,
            message=f"spec.activeDeadlineSeconds {current.config.spec.active_deadline_seconds} is over",
            resolution="Raise spec.activeDeadlineSeconds or ask for fewer steps.",
        )
    termination = current.folder.termination(stage)
    if termination is not None and termination.failure is not None:
        return termination.failure
    if code == 137:
        return Failure(
            category=FailureCategory.OUT_OF_MEMORY,
            message="the process was killed (SIGKILL), most likely because the machine ran out of memory",
            resolution="Lower training.batchSize or training.maxSequenceLength.",
        )
    meaning = meaning_of(code)
    lines = current.folder.log(stage.value).read_text(encoding="utf-8", errors="replace").splitlines()
    last = lines[-1][:1000] if lines else "no output"
    return Failure(category=meaning.category, message=f"last log line: {last}", resolution=meaning.resolution)


def _finish(current: _Run, options: RunOptions) -> int:
    _show_scores(current)
    write_report(current.folder, current.config, current.plan, Ending())
    _say(current.console, f"model:  {_shown(current.folder.model)}", _report_line(current))
    return _serve(current, options) if options.serve else ExitCode.DONE


def _serve(current: _Run, options: RunOptions) -> int:
    with serving(current.folder, current.config, options.port, current.children) as server:
        _say(current.console, f"server: {server.url}/v1 serves model {server.model}")
        if not current.children.interrupted:
            _ask(current, server)
        if options.once or current.children.interrupted:
            return ExitCode.DONE
        _say(current.console, "Serving until Ctrl-C.")
        while server.process.poll() is None:
            wait(server.process)
    if current.children.interrupted:
        return ExitCode.DONE
    raise CliError(f"the server ended; see {current.folder.log('server')}", ExitCode.SERVICE_UNAVAILABLE)


def _ask(current: _Run, server: Server) -> None:
    samples = current.folder.samples()
    if not samples:
        _say(current.console, "  no question asked: the evaluation rows have no answers to compare with, or have tools")
        return
    answer = ask(server, current.config.spec, samples[0])
    write_report(current.folder, current.config, current.plan, Ending(answer=answer))
    _say(current.console, *_answer_lines(answer))


def _answer_lines(answer: Answer) -> list[str]:
    return [f"  question: {answer.question}", f"  answer:   {answer.answer}", f"  expected: {answer.expected}"]


def _show_scores(current: _Run) -> None:
    scores = current.folder.scores()
    if any(scores.values()):
        current.console.print(score_table(scores))
    _say(current.console, *gate_lines(current.folder.gates()))


def _report_line(current: _Run) -> str:
    return f"report: {_shown(current.folder.report)}"


def _shown(path: Path) -> str:
    """A path as a person would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
