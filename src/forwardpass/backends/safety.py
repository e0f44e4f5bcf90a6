"""What may be loaded: artifacts that run code, only where the operator names their model.

    FORWARDPASS_ALLOW_CODE=churn,prices      these models may run code of whoever wrote them

Loading a pickle runs what its author put into it, so the operator names each model that may do so. Knows names
and suffixes only; opens no file and imports no library.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from forwardpass.artifacts import artifact_suffix
from forwardpass.errors import InvalidModel

ALLOW_CODE = "FORWARDPASS_ALLOW_CODE"
_VERSION = re.compile(r"0|[1-9][0-9]*")

# What a .skops file may hold beside the types that skops trusts: plain containers and numbers, and trees, which
# ``check_trees`` looks at.
SKOPS_TYPES = frozenset(
    {
        "collections.OrderedDict",
        "functools.partial",  # of a function that is trusted itself; categorical columns need it, with the next
        "sklearn.utils.validation.check_array",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        *(
            f"sklearn.gaussian_process.kernels.{kernel}"
            for kernel in (
                "CompoundKernel",
                "ConstantKernel",
                "DotProduct",
                "Exponentiation",
                "ExpSineSquared",
                "Matern",
                "Product",
                "RBF",
                "RationalQuadratic",
                "Sum",
                "WhiteKernel",
            )
        ),
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)


def model_name(artifact: Path) -> str:
    """The name by which an operator allows a model: the artifact's, or its folder's where that is just ``model``.

    A version's folder is skipped: ``churn.pkl``, ``churn/model.pkl`` and ``churn/3/model.pkl`` are all ``churn``.
    """
    path = Path(os.path.abspath(artifact))
    stem = path.name.removesuffix(artifact_suffix(path) or path.suffix)
    if stem != "model":
        return stem
    folder = path.parent
    return folder.parent.name if _VERSION.fullmatch(folder.name) else folder.name


def is_code_allowed(artifact: Path) -> bool:
    """Whether the operator named this model in ``FORWARDPASS_ALLOW_CODE``."""
    allowed = {name.strip() for name in os.environ.get(ALLOW_CODE, "").split(",")} - {""}
    return model_name(artifact) in allowed


def require_code_allowed(artifact: Path, why: str) -> None:
    """Raise ``InvalidModel`` unless the operator allowed this model to run code.

    ``why`` completes "<file> …", such as "is a pickle; save it as .skops instead".
    """
    if not is_code_allowed(artifact):
        raise InvalidModel(
            f"{artifact.name} {why}. Loading it may run code of whoever wrote it, so it is refused; "
            f"if you trust them: {ALLOW_CODE}={model_name(artifact)}"
        )
