"""Pre- and postprocessing: steps named in ``model.yaml`` that turn a batch into another.

In flow a caller's rows, out flow the tensors an artifact takes; then in flow its outputs, out flow
answers. Nothing here knows the artifact's library, a request or a process.
"""

from forwardpass.pipeline.base import Apply, Step
from forwardpass.pipeline.pipeline import Pipeline, create_pipeline
from forwardpass.pipeline.registry import create_step, step_classes
from forwardpass.pipeline.user import step

__all__ = ["Apply", "Pipeline", "Step", "create_pipeline", "create_step", "step", "step_classes"]
