"""What the random models of the planner's benchmark learn, and rows for it."""

from dataclasses import dataclass

_CLASSES = 4


@dataclass(frozen=True)
class Lesson:
    """What a kind of model learns from a row.

    Attributes:
        task, format: the job's.
        answer: share of the row's length that is its answer; 0 for a label, 1 for a target as long as the source.
    """

    task: str
    format: str
    answer: float

    def row(self, words: list[str], number: int) -> dict[str, str]:
        """A row of the data set."""
        match self.format:
            case "LabeledText":
                return {"text": " ".join(words), "label": f"class {number % _CLASSES}"}
            case "ParallelText":
                return {"source": " ".join(words), "target": " ".join(reversed(words))}
            case _:
                prompt = len(words) + 1 - int((len(words) + 1) * self.answer)
                return {
                    "prompt": "".join(map(_spaced, words[:prompt])),
                    "completion": "".join(map(_spaced, words[prompt:])),
                }


_WRITING = Lesson("TextGeneration", "PromptCompletion", 0.5)
_LESSONS = {"bert": Lesson("TextClassification", "LabeledText", 0), "t5": Lesson("Translation", "ParallelText", 1)}


def lesson_of(model_type: str) -> Lesson:
    """What a family of models learns: to write, unless it is made for something else."""
    return _LESSONS.get(model_type, _WRITING)


def _spaced(word: str) -> str:
    return f" {word}"
