"""From a trained model to a model folder: convert it, check the conversion row by row, write what serves.

In flows an estimator, a booster or a network, as an object or in a file; out flows a folder with an artifact,
``model.yaml`` and a sample, and a report of how far the answers lie apart. One module per library; what is common
to rows of numbers is in ``rows``, to ONNX graphs in ``graph``.
"""

from forwardpass.optimize.convert.importing import ImportReport, import_model

__all__ = ["ImportReport", "import_model"]
