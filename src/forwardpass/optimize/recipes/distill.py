"""Distillation: a smaller network learns the model's answers, not only the labels.

Hinton, Vinyals and Dean 2015: the student follows the teacher's probabilities, softened by a temperature,
and the labels. For models that answer in numbers it follows the numbers. The student is the user's, or the
model itself with three quarters of its channels pruned and all weights drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from forwardpass.errors import InvalidModel
from forwardpass.optimize.recipes.prune import TrainingRecipe, prune_channels
from forwardpass.optimize.recipes.source import Source, first
from forwardpass.optimize.recipes.training import Schedule, answers, train

TEMPERATURE = 4.0
ALPHA = 0.7  # the teacher's share of the loss; the rest is the labels'
RATIO = 0.75
SCHEDULE = Schedule(epochs=40, seconds=180.0, rate=2e-3)


class Distill(TrainingRecipe):
    """``temperature`` softens the teacher's answers, ``alpha`` is their share of the loss."""

    name = "distill"
    title = "A smaller network taught by the model"

    def __init__(self, schedule: Schedule = SCHEDULE, temperature: float = TEMPERATURE, alpha: float = ALPHA) -> None:
        super().__init__(schedule)
        self.temperature = temperature
        self.alpha = alpha

    def trained(self, source: Source) -> Any:
        inputs = list(source.inputs.values())
        student = _student(source)
        train(student, inputs, [source.labels, answers(source.model, inputs)], self._loss(source), self.schedule)
        return student

    def _loss(self, source: Source) -> Callable[..., Any]:
        functional: Any = import_module("torch.nn.functional")

        def loss(outputs: Any, labels: Any, taught: Any) -> Any:
            scores = first(outputs)
            if labels.is_floating_point():
                follow = functional.mse_loss(scores, taught)
            else:
                follow = soft_loss(scores, taught, self.temperature)
            return self.alpha * follow + (1 - self.alpha) * source.loss(outputs, labels)

        return loss


def soft_loss(scores: Any, taught: Any, temperature: float) -> Any:
    """Kullback-Leibler divergence of softened answers, logits [rows, classes] both.

    Times the temperature squared, so that its gradients stay as large as those of the labels.
    """
    functional: Any = import_module("torch.nn.functional")
    student = functional.log_softmax(scores / temperature, dim=-1)
    teacher = functional.log_softmax(taught / temperature, dim=-1)
    divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def _student(source: Source) -> Any:
    """The user's student, or the model with fewer channels and none of its weights."""
    if source.create_student is not None:
        student = source.create_student()
        if first(student.eval()(*source.example)).shape != first(source.model(*source.example)).shape:
            raise InvalidModel("create_student() answers in another shape than create_model()")
        return student
    student = prune_channels(source.model, source.example, RATIO)
    for module in student.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return student
